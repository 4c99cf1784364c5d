-- View: each CCD that a model is scored with, its class by the labels and what the model calls it.
-- Splits that are not the model's own (is_own) bring what they were called with them.
select
    test_sets.model,
    test_sets.split,
    test_sets.predicted is null as is_own,
    test_sets.release,
    test_sets.camera,
    test_sets.night,
    test_sets.expnum,
    test_sets.ccdnum,
    test_sets.class,
    test_sets.class_index,
    coalesce(test_sets.predicted, predictions.class) as predicted,
    coalesce(test_sets.probability, predictions.probability) as probability,
    predictions.probabilities
from test_sets
left join predictions
    on predictions.model = test_sets.model
    and predictions.camera = test_sets.camera
    and predictions.night = test_sets.night
    and predictions.expnum = test_sets.expnum
    and predictions.ccdnum = test_sets.ccdnum
    and test_sets.predicted is null
