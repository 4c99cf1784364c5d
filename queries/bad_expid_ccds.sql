-- CCDs that a model calls bad with some certainty, on exposures that are not bad as a whole.
select
    predictions.expnum,
    predictions.ccdnum,
    predictions.class,
    predictions.probability
from predictions
anti join (
    select expnum from votes where model = $model and camera = $camera and is_bad
) as bad_exposures using (expnum)
where
    predictions.model = $model
    and predictions.camera = $camera
    and predictions.class <> 'good'
    and predictions.probability >= $min_probability
order by predictions.expnum, predictions.ccdnum
