package org.example.tfdistill

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import kotlin.math.abs
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

/** The phone gives the classes and probabilities that the bundle was made with. */
@RunWith(AndroidJUnit4::class)
class GoldenTest {
    @Test
    fun plainTextsComeOutAsWhereTheBundleWasMade() {
        val instrumentation = InstrumentationRegistry.getInstrumentation()
        val golden = JSONObject(instrumentation.context.assets.open("golden.json").bufferedReader().use { it.readText() })
        val tolerance = minOf(golden.getDouble("tolerance"), 0.05)
        val vectors = golden.getJSONArray("vectors")
        var texts = 0
        Classifier(instrumentation.targetContext).use { classifier ->
            for (number in 0 until vectors.length()) {
                val vector = vectors.getJSONObject(number)
                val text = vector.getString("text")
                if (!plain(text)) continue
                texts += 1
                val values = vector.getJSONArray("probabilities")
                val expected = List(values.length()) { values.getDouble(it) }
                val found = classifier.classify(text)
                assertEquals(text, expected.indices.maxBy { expected[it] }, found[0].index)
                for (scored in found) {
                    val difference = abs(scored.probability - expected[scored.index])
                    assertTrue("$text: ${scored.label} is off by $difference", difference <= tolerance)
                }
            }
        }
        assertTrue("golden.json has $texts plain texts", texts >= 20)
    }

    /** Whether MediaPipe's tokenizer does as BERT's on this text: see examples/web/replay.mjs. */
    private fun plain(text: String) =
        text.all { it in '\t'..'\n' || it == '\r' || it in ' '..'~' } &&
            !Regex("\\[(PAD|UNK|CLS|SEP|MASK)]|[A-Za-z0-9]{101}").containsMatchIn(text)
}
