plugins {
    id("com.android.application") version "8.7.3"
    id("org.jetbrains.kotlin.android") version "2.0.21"
}

android {
    namespace = "org.example.tfdistill"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.example.tfdistill"
        minSdk = 24
        targetSdk = 35
        versionCode = 1
        versionName = "1"
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    kotlinOptions { jvmTarget = "17" }

    // MediaPipe maps the file as it lies in the package.
    androidResources { noCompress += "tflite" }
}

dependencies {
    // 1.0.x reports usage to its maker; this version was the last without, in its JavaScript at least.
    implementation("com.google.mediapipe:tasks-text:0.10.35")

    androidTestImplementation("androidx.test:runner:1.6.2")
    androidTestImplementation("androidx.test.ext:junit:1.2.1")
}
