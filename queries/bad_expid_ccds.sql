-- CCDs that a model calls bad with some certainty, on exposures that are not bad as a whole.
with

certainties as (

    select
        model,
        camera,
        expnum,
        ccdnum,
        class,
        -- Of being bad at all, whatever the class: good is every model's first.
        coalesce(1 - probabilities[1], probability)::float as probability
    from predictions
    where class <> 'good'

)

select
    certainties.expnum,
    certainties.ccdnum,
    certainties.class,
    certainties.probability
from certainties
anti join (
    select expnum from votes where model = $model and camera = $camera and is_bad
) as bad_exposures using (expnum)
where
    certainties.model = $model
    and certainties.camera = $camera
    and certainties.probability >= $min_probability::float
order by certainties.expnum, certainties.ccdnum
