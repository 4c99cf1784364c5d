-- Precision, recall and F1 by class of what a model has not seen, by split.
with

kept as (

    select split, class, predicted
    from scored_ccds
    where model = $model and probability >= $min_probability::float

),

true_counts as (

    select split, class, count(*) as n_true, count(*) filter (where predicted = class) as n_hits
    from kept
    group by all

),

predicted_counts as (

    select
        split,
        predicted as class,
        count(*) as n_predicted
    from kept
    group by all

),

counts as (

    select
        split,
        class,
        coalesce(n_true, 0) as n_true,
        coalesce(n_predicted, 0) as n_predicted,
        coalesce(n_hits, 0) as n_hits
    from true_counts
    full join predicted_counts using (split, class)

)

select
    counts.split,
    counts.class,
    counts.n_hits / nullif(counts.n_predicted, 0) as precision,
    counts.n_hits / nullif(counts.n_true, 0) as recall,
    2 * counts.n_hits / (counts.n_predicted + counts.n_true) as f1,
    counts.n_true as support,
    counts.n_predicted
from counts
left join classes on classes.name = counts.class
order by counts.split, classes.number, counts.class
