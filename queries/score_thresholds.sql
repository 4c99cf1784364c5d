-- Purity and completeness of each class, and of all bad ones, against the threshold (Green et al.
-- 2025: true and predicted of the predicted, and of the true).
with

scored as (

    select class, place, probabilities
    from scored_ccds
    where model = $model and is_own and predicted is not null

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

-- All at or above each probability that occurs.
ranked as (

    select
        class,
        chance,
        sum(n) over ranks as n_selected,
        sum(n_true) over ranks as n_hits
    from counts
    window ranks as (partition by class order by chance desc)

),

totals as (

    select class, sum(n_true) as n_true
    from counts
    group by class

),

asked as (

    select totals.class, totals.n_true, thresholds.threshold
    from totals
    cross join thresholds

)

-- The least probability at or above each threshold; none: nothing is selected.
select
    asked.class,
    asked.threshold,
    coalesce(ranked.n_selected, 0)::bigint as n_selected,
    ranked.n_hits / ranked.n_selected as purity,
    coalesce(ranked.n_hits, 0) / nullif(asked.n_true, 0) as completeness
from asked
asof left join ranked
    on ranked.class = asked.class
    and ranked.chance >= asked.threshold::float
left join classes on classes.name = asked.class
where len($classes::varchar[]) = 0 or list_contains($classes, asked.class)
order by classes.number nulls first, asked.class, asked.threshold
