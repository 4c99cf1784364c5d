-- The settings that a search tried, the best first: how far each came and how it scored there.
with

reached as (

    select
        candidate,
        rung,
        any_value(n_samples) as n_samples,
        -- Settings that fail on a fold have no score.
        case when count(accuracy) = count(*) then avg(accuracy) end as accuracy,
        stddev_samp(accuracy) as deviation,
        sum(seconds) as seconds,
        any_value(error) as error,
        any_value(scaler) as scaler,
        any_value(n_components) as n_components,
        any_value(min_variance) as min_variance,
        any_value(n_neighbors) as n_neighbors,
        any_value(p) as p,
        any_value(leaf_size) as leaf_size
    from searches
    where model = $model
    group by candidate, rung

),

last as (

    select *
    from reached
    qualify row_number() over (partition by candidate order by rung desc) = 1

)

select
    row_number() over (
        -- Rounded, since sums in another order are no better.
        order by rung desc, round(accuracy, 12) desc nulls last, candidate
    ) as rank,
    candidate,
    rung,
    n_samples,
    accuracy,
    deviation,
    seconds,
    scaler,
    n_components,
    min_variance,
    n_neighbors,
    p,
    leaf_size,
    error
from last
order by rank
