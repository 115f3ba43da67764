import SwiftUI

/// A field to type in, and below it the classes of what stands there.
@main
struct ExampleApp: App {
    private let classifier = Result { try Classifier() }
    @State private var text = ""

    var body: some Scene {
        WindowGroup {
            List {
                TextField("A text", text: $text)
                switch found {
                case .failure(let error):
                    Text(error.localizedDescription)
                case .success(let (classes, milliseconds)):
                    ForEach(classes) { scored in
                        HStack {
                            Text(scored.label)
                            Spacer()
                            Text(String(format: "%.3f", scored.probability))
                        }
                    }
                    Text(String(format: "%.1f ms", milliseconds)).foregroundColor(.secondary)
                }
            }
        }
    }

    private var found: Result<([Scored], Double), Error> {
        Result {
            let begin = Date()
            let classes = try classifier.get().classify(text)
            return (classes, Date().timeIntervalSince(begin) * 1000)
        }
    }
}
