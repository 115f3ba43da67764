import Foundation
import MediaPipeTasksText

/// A class with its probability. `index` is its line in labels.txt, counted from 0.
struct Scored: Identifiable {
    let label: String
    let index: Int
    let probability: Float
    var id: Int { index }
}

/// model.tflite of a bundle that was exported with --mediapipe.
final class Classifier {
    private let classifier: TextClassifier

    init(bundle: Bundle = .main) throws {
        guard let path = bundle.path(forResource: "model", ofType: "tflite") else {
            throw CocoaError(.fileNoSuchFile)
        }
        classifier = try TextClassifier(modelPath: path)
    }

    /// All classes, the likeliest first.
    func classify(_ text: String) throws -> [Scored] {
        try classifier.classify(text: text).classificationResult.classifications[0].categories
            .map { Scored(label: $0.categoryName ?? "", index: $0.index, probability: $0.score) }
            .sorted { $0.probability > $1.probability }
    }
}
