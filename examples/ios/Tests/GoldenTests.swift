import XCTest
@testable import TfdistillExample

/// The phone gives the classes and probabilities that the bundle was made with.
final class GoldenTests: XCTestCase {
    private struct Golden: Decodable {
        struct Vector: Decodable {
            let text: String
            let probabilities: [Double]
        }
        let tolerance: Double
        let vectors: [Vector]
    }

    func testPlainTextsComeOutAsWhereTheBundleWasMade() throws {
        let url = try XCTUnwrap(Bundle(for: Self.self).url(forResource: "golden", withExtension: "json"))
        let golden = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: url))
        let vectors = golden.vectors.filter { plain($0.text) }
        XCTAssertGreaterThanOrEqual(vectors.count, 20)
        let classifier = try Classifier()
        for vector in vectors {
            let found = try classifier.classify(vector.text)
            let likeliest = vector.probabilities.indices.max { vector.probabilities[$0] < vector.probabilities[$1] }
            XCTAssertEqual(found[0].index, likeliest, vector.text)
            for scored in found {
                XCTAssertEqual(
                    Double(scored.probability), vector.probabilities[scored.index], accuracy: min(golden.tolerance, 0.05), vector.text)
            }
        }
    }

    /// Whether MediaPipe's tokenizer does as BERT's on this text: see examples/web/replay.mjs.
    private func plain(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy { "\t\n\r".unicodeScalars.contains($0) || (" "..."~").contains($0) }
            && text.range(of: "\\[(PAD|UNK|CLS|SEP|MASK)\\]|[A-Za-z0-9]{101}", options: .regularExpression) == nil
    }
}
