-- Average precision of each class, and of all bad ones: precision against recall, integrated.
with

-- Few probabilities differ.
counts as (

    select class, probability, count(*) as n, count(*) filter (where is_true) as n_true
    from scored_probabilities
    where model = $model
    group by all

),

-- All of one probability are taken at once: their order would be chance.
ranked as (

    select
        class,
        n_true,
        sum(n) over ranks as n_selected,
        sum(n_true) over ranks as n_hits,
        sum(n_true) over (partition by class) as total,
        sum(n) over (partition by class) as n_scored
    from counts
    window ranks as (partition by class order by probability desc)

)

select
    ranked.class,
    any_value(ranked.total)::bigint as n_true,
    any_value(ranked.total) / any_value(ranked.n_scored) as by_chance,
    -- The last digits of a sum of fractions depend on its order.
    round(sum(n_true / total * n_hits / n_selected), 9) as average_precision
from ranked
left join classes on classes.name = ranked.class
where ranked.total > 0
group by ranked.class, classes.number
order by classes.number nulls first, ranked.class
