-- A model's scores in one line a split: its own, and the split by image, whose leak flatters.
with

scored as (

    select
        split,
        class,
        predicted,
        probability,
        -- Squared distance of all the probabilities from the truth.
        list_sum(list_transform(probabilities, lambda p: p::double * p::double))
            - 2 * probabilities[class_index]::double
            + 1 as distance
    from scored_ccds
    where model = $model

),

kept as (

    select split, class, predicted
    from scored
    where probability >= $min_probability::float

),

counts as (

    select split, class, predicted, count(*) as n
    from kept
    group by all

),

by_class as (

    select
        split,
        class,
        sum(n) as n_true,
        coalesce(sum(n) filter (where predicted = class), 0) as n_hits
    from counts
    group by all

),

by_predicted as (

    select split, predicted as class, sum(n) as n_predicted
    from counts
    group by all

),

-- Over the classes that occur. Rounded, since the last digits of a sum depend on its order.
means as (

    select
        split,
        sum(n_hits) / sum(n_true) as accuracy,
        round(avg(2 * n_hits / (n_true + coalesce(n_predicted, 0))), 9) as macro_f1,
        max(n_true) / sum(n_true) as by_chance
    from by_class
    left join by_predicted using (split, class)
    group by split

),

totals as (

    select
        split,
        count(*) filter (where predicted is null) as n_unpredicted,
        count(predicted) as n_scored,
        count(*) filter (where probability >= $min_probability::float) as n_kept,
        round(avg(distance), 9) as brier
    from scored
    group by split

)

select
    totals.split,
    totals.n_unpredicted,
    totals.n_scored,
    totals.n_kept,
    totals.n_kept / nullif(totals.n_scored, 0) as coverage,
    means.accuracy,
    means.macro_f1,
    means.by_chance,
    totals.brier
from totals
left join means using (split)
order by totals.brier is null, totals.split
