"""The Distiller as a Keras user and a reader of the papers expect it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, mirrored, tiny_bert

from tfdistill import losses, mapping
from tfdistill.distill.batch import split_batch
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.errors import DivergedError, UserError
from tfdistill.optim.optimizers import make_optimizer
from tfdistill.optim.schedule import WarmupLinear

X, Y = inputs(), np.random.default_rng(1).integers(0, 3, 22)
WEIGHTS = np.random.default_rng(2).random(22).astype("float32")
SOFT = Match(losses.soft_kl, options={"temperature": 2.0})


def all_terms():
    return [
        SOFT,
        HardLabels(),
        Match(losses.hidden_mse, on="embeddings", project="fit"),
        Match(losses.hidden_mse, on="hidden_states", layers=mapping.uniform(1, 2), project="fit"),
        Match(losses.attention_mse, on="attention_scores", layers=mapping.uniform(1, 2)),
    ]


def make(terms=None, optimizer=None, micro_batches=1, **compile_options):
    keras.utils.set_random_seed(1)
    teacher, student = tiny_bert(layers=2, width=12), tiny_bert(layers=1)
    distiller = Distiller(student, teacher, all_terms() if terms is None else terms, micro_batches=micro_batches)
    distiller.compile(optimizer or keras.optimizers.SGD(0.1), metrics=["accuracy"], **compile_options)
    return distiller


def plain_model(units=3, inputs_=4):
    return keras.Sequential([keras.Input((inputs_,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(units)])


# --- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_fit_learns_and_only_student_and_projections_change():
    distiller = make(optimizer=keras.optimizers.Adam(0.02))
    before = [np.array(w) for w in distiller.teacher.get_weights()]
    history = distiller.fit(X, Y, batch_size=8, epochs=12, verbose=0, validation_data=(X, Y)).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["val_loss"][-1] < 0.7 * history["val_loss"][0]
    for old, new in zip(before, distiller.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    trained = {id(v) for v in distiller.trainable_variables}
    assert not trained & {id(v) for v in distiller.teacher.variables}
    # student, one projection for the embeddings and one for the layer pair
    assert len(trained) == len(distiller.student.trainable_variables) + 2


@pytest.mark.heavy
def test_loss_is_the_weighted_sum_of_terms_from_the_formulas():
    distiller = make([SOFT, HardLabels(weight=0.5)])
    logs = distiller.evaluate(X, Y, sample_weight=WEIGHTS, batch_size=22, verbose=0, return_dict=True)
    z_s, z_t = distiller.student(X), distiller.teacher(X)
    soft = np.mean(WEIGHTS * losses.soft_kl(z_s, z_t, temperature=2.0))
    hard = np.mean(WEIGHTS * losses.sparse_cross_entropy(z_s, Y))
    assert logs["soft_kl"] == pytest.approx(soft, rel=1e-4)
    assert logs["hard_labels"] == pytest.approx(hard, rel=1e-5)
    assert logs["loss"] == pytest.approx(soft + 0.5 * hard, rel=1e-5)


@pytest.mark.heavy
def test_one_student_and_one_teacher_forward_a_step_and_teacher_never_in_training_mode():
    calls = []

    class Counting(type(tiny_bert())):
        def features(self, inputs, want=("logits",), training=False):
            calls.append((self.name, bool(training), tuple(want)))
            return super().features(inputs, want, training)

    keras.utils.set_random_seed(1)
    teacher, student = (Counting(tiny_bert(n, 8, dropout=0.5).config, 3, name=name) for n, name in ((2, "t"), (1, "s")))
    distiller = Distiller(student, teacher, all_terms())
    distiller.compile("sgd", run_eagerly=True)
    calls.clear()
    distiller.fit(X, Y, batch_size=22, epochs=1, verbose=0)
    wanted = ("attention_scores", "embeddings", "hidden_states", "logits")
    assert sorted(calls) == [("s", True, wanted), ("t", False, wanted[:1] + wanted[1:])]


def test_features_nobody_asked_for_are_not_made():
    terms = [Match(losses.hidden_mse, on="hidden_states", layers=((1, 2),), project="fit")]
    distiller = Distiller(tiny_bert(1), tiny_bert(2, width=12), terms)
    distiller.compile("sgd")
    step = distiller.forward(X, None, training=False)
    assert step.student.logits is None and step.student.attention_scores is None and step.teacher.logits is None


@pytest.mark.heavy
def test_teacher_with_dropout_gives_the_same_targets_every_time():
    keras.utils.set_random_seed(1)
    distiller = Distiller(tiny_bert(), tiny_bert(1, dropout=0.5), [SOFT])
    distiller.compile("sgd")
    first, second = (distiller.forward(X, None, training=True).teacher.logits for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.heavy
def test_sample_weight_zero_takes_an_example_out():
    weights = np.ones(22, "float32")
    weights[11:] = 0
    changed = {key: value.copy() for key, value in X.items()}
    changed["token_ids"][11:] = 7
    one, two = make([SOFT, HardLabels()]), make([SOFT, HardLabels()])
    one.fit(X, Y, sample_weight=weights, batch_size=22, verbose=0)
    two.fit(changed, Y, sample_weight=weights, batch_size=22, verbose=0)
    for a, b in zip(one.student.get_weights(), two.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.heavy
def test_padding_changes_nothing():
    padded = {key: np.pad(value, [(0, 0), (0, 5)]) for key, value in X.items()}
    one, two = make(), make()
    one.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    two.fit(padded, Y, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(one.student.get_weights(), two.student.get_weights(), strict=True):
        if a.shape == b.shape:
            np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.parametrize("parts", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_micro_batches_give_the_whole_batchs_step(parts):
    whole, parted = make(), make(micro_batches=parts)
    one, two = (
        distiller.fit(X, Y, sample_weight=WEIGHTS, batch_size=22, epochs=2, shuffle=False, verbose=0).history
        for distiller in (whole, parted)
    )
    for a, b in zip(whole.student.get_weights(), parted.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for name, values in one.items():
        np.testing.assert_allclose(values, two[name], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_micro_batches_clip_and_move_rows_as_the_whole_batch_does():
    """Adam moves the rows of a table that a batch reads, and the norm counts each use of a row by itself."""
    made = []
    for parts in (1, 3):
        adam = make_optimizer("adamw", WarmupLinear(0.02, 0, 10**9), clip_norm=0.05)
        made.append(make(optimizer=adam, micro_batches=parts))
        made[-1].fit(X, Y, batch_size=6, epochs=2, shuffle=False, verbose=0)
    for variable, other in zip(*(distiller.student.trainable_variables for distiller in made), strict=True):
        np.testing.assert_allclose(other.numpy(), variable.numpy(), atol=2e-5, err_msg=variable.path)


@pytest.mark.heavy
def test_terms_on_parameters_count_once_in_micro_batches():
    class Small(Term):
        """½·Σ s² of a scale that nothing else reads."""

        name, weight, on_parameters = "small", 1.0, True

        def make_projections(self, student, teacher):
            class Scale(keras.layers.Layer):
                def build(self, shape=None):
                    self.scale = self.add_weight(shape=(2,), initializer="ones", name="scale")

            layer = Scale()
            layer.build()
            return {"small": layer}

        def __call__(self, step):
            return 0.5 * tf.reduce_sum(tf.square(tf.convert_to_tensor(step.projections["small"].scale)))

    distiller = make([HardLabels(), Small()], micro_batches=2)
    distiller.fit(X, Y, batch_size=22, verbose=0)
    np.testing.assert_allclose(distiller.projections["small"].scale.numpy(), [0.9, 0.9], rtol=1e-6)


@pytest.mark.heavy
def test_counting_the_parts_keeps_no_forward_pass():
    """What the loss is divided by follows from masks and numbers of rows; no product is among what it is made of."""
    distiller = make(micro_batches=2)

    @tf.function(
        input_signature=[{key: tf.TensorSpec((None, None), tf.int32) for key in X}, tf.TensorSpec((None,), tf.int64)]
    )
    def counts(x, y):
        return distiller.term_counts(split_batch((x, y), 2))

    graph = counts.get_concrete_function().graph
    seen, left = set(), [output.op for output in graph.outputs]
    while left:
        op = left.pop()
        if op.name not in seen:
            seen.add(op.name)
            left += [value.op for value in op.inputs]
    kinds = {graph.get_operation_by_name(name).type for name in seen}
    assert "MatMul" in {op.type for op in graph.get_operations()} and not kinds & {"MatMul", "BatchMatMulV2"}


@pytest.mark.heavy
def test_cached_features_and_a_live_teacher_go_together():
    logits = np.random.default_rng(3).normal(size=(22, 3)).astype("float32")
    hidden = Match(losses.hidden_mse, on="hidden_states", layers=((1, 2),), project="fit")
    distiller = make([SOFT, hidden])
    step = distiller.forward({"student": X, "teacher_features": {"logits": logits}}, None, training=False)
    np.testing.assert_array_equal(step.teacher.logits, logits)
    assert len(step.teacher.hidden_states) == 2 and step.teacher.embeddings is None


# --- tf.distribute --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_mirrored_gives_one_device_result(jit):
    """With `jit` the forward and backward passes of each device are compiled by XLA."""

    def run(strategy):
        several = strategy.num_replicas_in_sync > 1
        with strategy.scope():
            distiller = make(jit_compile=jit and several, micro_batches=2 if jit else 1)
        history = distiller.fit(
            X, Y, sample_weight=WEIGHTS, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_data=(X, Y)
        )
        return distiller, history.history

    (one, history_one), (two, history_two) = (run(strategy) for strategy in (tf.distribute.get_strategy(), mirrored()))
    # 22 examples in batches of 8: the last batch is uneven over two replicas.
    for a, b in zip(one.student.get_weights(), two.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for name, values in history_one.items():
        np.testing.assert_allclose(values, history_two[name], atol=1e-4, err_msg=name)


# --- keras ----------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_plain_keras_models_distil_in_a_users_own_loop():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4)).astype("float32")
    y = (x @ rng.normal(size=(4, 3))).argmax(-1)
    teacher, student = plain_model(), plain_model()
    teacher.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    teacher.fit(x, y, epochs=15, verbose=0)
    distiller = Distiller(student, teacher, [SOFT])
    distiller.compile(keras.optimizers.Adam(0.02), metrics=["accuracy"])
    distiller.fit(x, y, epochs=15, verbose=0, validation_split=0.2)
    agree = np.mean(distiller.predict(x, verbose=0).argmax(-1) == teacher.predict(x, verbose=0).argmax(-1))
    assert agree > 0.9


@pytest.mark.heavy
def test_keras_hub_classifiers_distil():
    keras_hub = pytest.importorskip("keras_hub")

    def classifier(layers):
        backbone = keras_hub.models.BertBackbone(50, layers, 2, 8, 16, max_sequence_length=16)
        return keras_hub.models.BertTextClassifier(backbone, num_classes=3, preprocessor=None)

    student, teacher = classifier(1), classifier(2)
    distiller = Distiller(student, teacher, [SOFT, HardLabels()])
    distiller.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    history = distiller.fit(X, Y, batch_size=11, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.heavy
def test_compile_loss_is_one_more_term():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled, termed = make([SOFT], loss=loss), make([SOFT, HardLabels()])
    a, b = (d.evaluate(X, Y, sample_weight=WEIGHTS, verbose=0, return_dict=True) for d in (compiled, termed))
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5) and a["compile_loss"] == pytest.approx(
        b["hard_labels"], rel=1e-5
    )


@pytest.mark.heavy
def test_student_is_saved_alone_and_opens_again(tmp_path):
    distiller = make()
    distiller.fit(X, Y, verbose=0)
    path = tmp_path / "student.keras"
    distiller.student.save(path)
    again = keras.saving.load_model(path)
    np.testing.assert_array_equal(again.predict(X, verbose=0), distiller.predict(X, verbose=0))
    assert path.stat().st_size < 400_000


@pytest.mark.heavy
def test_weights_of_the_distiller_leave_the_teacher_out(tmp_path):
    distiller = make()
    assert len(distiller.weights) == len(distiller.student.weights) + 2
    distiller.save_weights(tmp_path / "d.weights.h5")
    other = make()
    other.fit(X, Y, verbose=0)
    other.load_weights(tmp_path / "d.weights.h5")
    np.testing.assert_array_equal(other.predict(X, verbose=0), distiller.predict(X, verbose=0))


@pytest.mark.heavy
def test_callbacks_work(tmp_path):
    pytest.importorskip("tensorboard")
    distiller = make()
    callbacks = [
        keras.callbacks.TensorBoard(tmp_path / "tb", update_freq=1),
        keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", save_weights_only=True, save_best_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    distiller.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y), callbacks=callbacks)
    assert list((tmp_path / "tb").rglob("events*")) and (tmp_path / "best.weights.h5").is_file()
    assert "hidden_states_hidden_mse" in (tmp_path / "log.csv").read_text().splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_mixed_precision_stays_near_float32(policy):
    plain = make(optimizer=keras.optimizers.Adam(0.01)).fit(X, Y, epochs=3, verbose=0, shuffle=False).history
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        distiller = make(optimizer=keras.optimizers.Adam(0.01))
        history = distiller.fit(X, Y, epochs=3, verbose=0, shuffle=False).history
        assert distiller.predict(X, verbose=0).dtype == np.float32
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=0.1)


@pytest.mark.heavy
def test_batches_may_tell_student_and_teacher_apart_or_carry_cached_logits():
    other = inputs(seed=5)
    apart = make([SOFT, HardLabels()])
    batch = {"student": X, "teacher": other, "labels": Y, "sample_weight": WEIGHTS}
    apart.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    cached = make([SOFT, HardLabels()])
    features = {"logits": cached.teacher(other).numpy()}
    student_alone = Distiller(cached.student, None, [SOFT, HardLabels()])
    student_alone.compile(keras.optimizers.SGD(0.1))
    with_cache = {"student": X, "teacher_features": features, "labels": Y, "sample_weight": WEIGHTS}
    student_alone.fit(tf.data.Dataset.from_tensors(with_cache), verbose=0)
    for a, b in zip(apart.student.get_weights(), cached.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.heavy
def test_unlabelled_batches_train_terms_without_labels():
    distiller = Distiller(tiny_bert(1), tiny_bert(2), [SOFT])
    distiller.compile("sgd")
    assert np.isfinite(distiller.fit(X, verbose=0).history["loss"][0])


@pytest.mark.slow
def test_jit_compile_gives_the_same():
    plain, jitted = make(), make(jit_compile=True)
    for distiller in (plain, jitted):
        distiller.fit(X, Y, batch_size=11, shuffle=False, verbose=0)
    for a, b in zip(plain.student.get_weights(), jitted.student.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_divergence_names_step_and_term():
    distiller = make([SOFT, Match(losses.hidden_mse, on="hidden_states", layers=((1, 2),), project="fit")])
    weights = np.ones(22, "float32")
    weights[17] = np.nan  # third batch of 8; arrays would be checked before the first step
    batches = tf.data.Dataset.from_tensor_slices((X, Y, weights)).batch(8)
    with pytest.raises(DivergedError, match="sample weights of batch 3") as caught:
        distiller.fit(batches, verbose=0)
    assert caught.value.step == 3 and caught.value.term in ("soft_kl", "hidden_states_hidden_mse")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("terms", "teacher", "message"),
    [
        ([SOFT, SOFT], tiny_bert(), "'soft_kl'"),
        ([], None, "no terms"),
        ([SOFT], None, "logits of the teacher"),
        ([Match(losses.hidden_mse, on="embeddings")], plain_model(), "logits only"),
        ([Match(losses.hidden_mse, on="embeddings")], tiny_bert(2, 12), "project='fit'"),
        ([Match(losses.hidden_mse, on="hidden_states", layers=((1, 9),))], tiny_bert(), "layer 9"),
        ([SOFT], tiny_bert(outputs=4), "number of classes"),
    ],
)
def test_what_does_not_fit_together_is_one_line(terms, teacher, message):
    with pytest.raises(UserError, match=message):
        distiller = Distiller(tiny_bert(1), teacher, terms)
        distiller.compile("sgd", run_eagerly=True)
        distiller.fit(X, Y, verbose=0)


@pytest.mark.heavy
def test_metrics_without_labels_are_refused():
    with pytest.raises(UserError, match="metrics"):
        make([SOFT]).fit(X, verbose=0)
