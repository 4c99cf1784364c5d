-- View: each CCD that a model is scored with, its class by the labels and what the model calls it.
-- Splits that are not the model's own (is_own) bring what they were called with them.
select
    holdouts.model,
    holdouts.split,
    holdouts.predicted is null as is_own,
    holdouts.release,
    holdouts.camera,
    holdouts.night,
    holdouts.expnum,
    holdouts.ccdnum,
    holdouts.class,
    holdouts.place,
    coalesce(holdouts.predicted, predictions.class) as predicted,
    coalesce(holdouts.probability, predictions.probability) as probability,
    predictions.probabilities
from holdouts
left join predictions
    on predictions.model = holdouts.model
    and predictions.camera = holdouts.camera
    and predictions.night = holdouts.night
    and predictions.expnum = holdouts.expnum
    and predictions.ccdnum = holdouts.ccdnum
    and holdouts.predicted is null
