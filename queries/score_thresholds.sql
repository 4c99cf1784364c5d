-- Purity and completeness of each class, and of all bad ones, against the threshold (Green et al.
-- 2025: true and predicted of the predicted, and of the true).
with

own as (

    select camera, night, expnum, ccdnum, class, probability, probabilities
    from predictions
    where model = $model

),

scored as (

    select holdouts.class, holdouts.place, own.probabilities
    from holdouts
    inner join own using (camera, night, expnum, ccdnum)
    where holdouts.model = $model and holdouts.predicted is null

),

names as (

    select distinct class, place from scored

),

-- Good is the first of the probabilities.
chances as (

    select
        'any bad' as class,
        1::float - probabilities[1] as chance,
        class <> 'good' as is_true
    from scored
    union all
    select
        names.class,
        scored.probabilities[names.place] as chance,
        scored.class = names.class as is_true
    from scored
    cross join names

),

-- Few probabilities differ.
counts as (

    select class, chance, count(*) as n, count(*) filter (where is_true) as n_true
    from chances
    group by all

),

thresholds as (

    select range / $steps::integer as threshold
    from range($steps + 1)

),

totals as (

    select class, sum(n_true) as n_true
    from counts
    group by all

),

found as (

    select
        counts.class,
        thresholds.threshold,
        coalesce(sum(counts.n) filter (where chance >= threshold::float), 0) as n_selected,
        coalesce(sum(counts.n_true) filter (where chance >= threshold::float), 0) as n_hits
    from counts
    cross join thresholds
    group by all

)

select
    found.class,
    found.threshold,
    found.n_selected::bigint as n_selected,
    found.n_hits / nullif(found.n_selected, 0) as purity,
    found.n_hits / nullif(totals.n_true, 0) as completeness
from found
inner join totals using (class)
left join classes on classes.name = found.class
where len($classes::varchar[]) = 0 or list_contains($classes, found.class)
order by classes.number nulls first, found.class, found.threshold
