-- How many CCDs of each class a model calls what, of those it has not seen.
with

own as (

    select camera, night, expnum, ccdnum, class, probability
    from predictions
    where model = $model

),

-- Splits that are not the model's own bring what they were called with them.
scored as (

    select
        holdouts.split,
        holdouts.class,
        coalesce(holdouts.predicted, own.class) as predicted,
        coalesce(holdouts.probability, own.probability) as probability
    from holdouts
    left join own
        on own.camera = holdouts.camera
        and own.night = holdouts.night
        and own.expnum = holdouts.expnum
        and own.ccdnum = holdouts.ccdnum
        and holdouts.predicted is null
    where holdouts.model = $model

),

kept as (

    select split, class, predicted
    from scored
    where probability >= $min_probability::float

)

select kept.split, kept.class, kept.predicted, count(*) as n
from kept
left join classes as labelled on labelled.name = kept.class
left join classes as called on called.name = kept.predicted
group by kept.split, kept.class, kept.predicted, labelled.number, called.number
order by kept.split, labelled.number, kept.class, called.number, kept.predicted
