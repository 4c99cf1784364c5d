-- Scores of the votes by class, and of good or bad, on exposures that the model has not seen.
with

exposed as (

    select class, voted, n_bad, n_ccds
    from scored_exposures
    where model = $model

),

named as (

    select class, voted from exposed
    union all
    -- Good or bad alone.
    select
        if(class = 'good', null, 'any bad') as class,
        if(voted = 'good', null, 'any bad') as voted
    from exposed

),

counts as (

    select
        names.class,
        count(*) filter (where named.class = names.class) as n_true,
        count(*) filter (where named.voted = names.class) as n_voted,
        count(*) filter (where named.class = names.class and named.voted = names.class) as n_hits
    from named
    cross join (select class from named union select voted as class from named) as names
    where names.class is not null
    group by all

)

select
    counts.class,
    counts.n_hits / nullif(counts.n_voted, 0) as precision,
    counts.n_hits / nullif(counts.n_true, 0) as recall,
    2 * counts.n_hits / (counts.n_voted + counts.n_true) as f1,
    counts.n_true as support,
    counts.n_voted
from counts
left join classes on classes.name = counts.class
order by classes.number nulls first, counts.class
