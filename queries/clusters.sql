-- Clusters of an embedder's vectors, a row for each class of their CCDs.
with

counted as (

    select embedder, method, cluster, class, count(*) as n
    from projections
    where ($embedder::varchar is null or embedder = $embedder)
        and ($method::varchar is null or method = $method)
    group by embedder, method, cluster, class

),

shared as (

    select
        embedder,
        method,
        cluster,
        sum(n) over whole as n_ccds,
        sum(n) filter (where class is not null) over whole as n_labelled,
        class,
        n
    from counted
    window whole as (partition by embedder, method, cluster)

)

select
    embedder,
    method,
    cluster,
    n_ccds::bigint as n_ccds,
    coalesce(n_labelled, 0)::bigint as n_labelled,
    class,
    n,
    case when class is not null then n / n_labelled end as share
from shared
where n_ccds > coalesce($more_than::bigint, 0)
order by embedder, method, cluster = -1, n_ccds desc, cluster, n desc, class
