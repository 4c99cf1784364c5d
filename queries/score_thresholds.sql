-- Purity and completeness of each class, and of all bad ones, against the threshold (Green et al.
-- 2025: true and predicted of the predicted, and of the true).
with

-- By the highest threshold at or below the probability. The product may round up to a threshold
-- that the probability does not reach; then it is the one below.
stepped as (

    select
        class,
        least(round(probability::double * $steps), $steps)::integer as nearest,
        nearest - (probability < (nearest / $steps::integer)::float)::integer as step,
        is_true
    from scored_probabilities
    where model = $model

),

counts as (

    select class, step, count(*) as n, count(*) filter (where is_true) as n_true
    from stepped
    group by all

),

totals as (

    select class, sum(n_true) as n_true
    from counts
    group by class

),

asked as (

    select totals.class, totals.n_true, range as step
    from totals
    cross join range($steps + 1)

),

-- All at or above each threshold.
selected as (

    select
        asked.class,
        asked.step,
        asked.n_true,
        coalesce(sum(counts.n) over steps, 0) as n_selected,
        coalesce(sum(counts.n_true) over steps, 0) as n_hits
    from asked
    left join counts using (class, step)
    window steps as (partition by asked.class order by asked.step desc)

)

select
    selected.class,
    selected.step / $steps::integer as threshold,
    selected.n_selected::bigint as n_selected,
    selected.n_hits / nullif(selected.n_selected, 0) as purity,
    selected.n_hits / nullif(selected.n_true, 0) as completeness
from selected
left join classes on classes.name = selected.class
where len($classes::varchar[]) = 0 or list_contains($classes, selected.class)
order by classes.number nulls first, selected.class, selected.step
