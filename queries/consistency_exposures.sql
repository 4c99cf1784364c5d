-- The classes that a model gives the CCDs of one exposure: how they differ, as entropy in bits.
with

counted as (

    select camera, night, expnum, class, count(*) as n
    from predictions
    where model = $model and ccdnum > 0
    group by camera, night, expnum, class

),

shares as (

    select *, n / sum(n) over (partition by camera, night, expnum) as share
    from counted

)

select
    camera,
    night,
    expnum,
    sum(n)::bigint as n_ccds,
    first(class order by n desc, class) as class,
    max(share) as agreement,
    count(*) as n_classes,
    -- No -0.
    abs(sum(share * log2(share))) as entropy
from shares
group by camera, night, expnum
order by entropy desc, camera, expnum
