-- How many CCDs of each class a model calls what, of those it has not seen.
with

kept as (

    select split, class, predicted
    from scored_ccds
    where model = $model and probability >= $min_probability::float

)

select kept.split, kept.class, kept.predicted, count(*) as n
from kept
left join classes as labelled on labelled.name = kept.class
left join classes as called on called.name = kept.predicted
group by kept.split, kept.class, kept.predicted, labelled.number, called.number
order by kept.split, labelled.number, kept.class, called.number, kept.predicted
