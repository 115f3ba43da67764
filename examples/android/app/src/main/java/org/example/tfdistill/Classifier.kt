package org.example.tfdistill

import android.content.Context
import com.google.mediapipe.tasks.text.textclassifier.TextClassifier
import java.io.Closeable

/** A class with its probability. `index` is its line in labels.txt, counted from 0. */
data class Scored(val label: String, val index: Int, val probability: Float)

/** model.tflite of a bundle that was exported with --mediapipe. */
class Classifier(context: Context) : Closeable {
    private val classifier = TextClassifier.createFromFile(context, "model.tflite")

    /** All classes, the likeliest first. */
    fun classify(text: String): List<Scored> =
        classifier.classify(text).classificationResult().classifications()[0].categories()
            .map { Scored(it.categoryName(), it.index(), it.score()) }
            .sortedByDescending { it.probability }

    override fun close() = classifier.close()
}
