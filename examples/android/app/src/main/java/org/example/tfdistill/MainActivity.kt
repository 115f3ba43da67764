package org.example.tfdistill

import android.app.Activity
import android.os.Bundle
import android.os.SystemClock
import android.text.Editable
import android.text.TextWatcher
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import java.util.Locale

/** A field to type in, and below it the classes of what stands there. */
class MainActivity : Activity() {
    private lateinit var classifier: Classifier

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        classifier = Classifier(this)
        val found = TextView(this)
        val typed = EditText(this).apply { hint = "A text" }
        typed.addTextChangedListener(object : TextWatcher {
            override fun afterTextChanged(text: Editable) { found.text = describe(text.toString()) }
            override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit
            override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit
        })
        setContentView(LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            setPadding(32, 96, 32, 32)
            addView(typed)
            addView(found)
        })
    }

    private fun describe(text: String): String {
        val begin = SystemClock.elapsedRealtimeNanos()
        val classes = classifier.classify(text)
        val milliseconds = (SystemClock.elapsedRealtimeNanos() - begin) / 1e6
        val lines = classes.map { String.format(Locale.ROOT, "%.3f  %s", it.probability, it.label) }
        return (lines + String.format(Locale.ROOT, "%.1f ms", milliseconds)).joinToString("\n")
    }

    override fun onDestroy() {
        classifier.close()
        super.onDestroy()
    }
}
