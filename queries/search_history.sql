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
        -- A classifier has its own settings; those of the others are null, and left out.
        any_value(
            concat_ws(
                ' ',
                'scaler=' || scaler,
                'n_components=' || n_components,
                'min_variance=' || min_variance,
                'n_neighbors=' || n_neighbors,
                'p=' || p,
                'leaf_size=' || leaf_size,
                'n_estimators=' || n_estimators,
                'min_samples_leaf=' || min_samples_leaf,
                'C=' || C,
                'learning_rate=' || learning_rate,
                'max_iter=' || max_iter,
                'max_leaf_nodes=' || max_leaf_nodes,
                'l2_regularization=' || l2_regularization
            )
        ) as settings
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
    settings,
    error
from last
order by rank
