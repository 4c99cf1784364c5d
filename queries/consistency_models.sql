-- Where two models give the CCDs of an exposure different classes. The entropy of two opinions is
-- 1 bit where they differ and 0 where they agree; here it is the mean over the exposure's CCDs.
with

compared as (

    select first.camera, first.night, first.expnum, first.class, second.class as other_class
    from predictions as first
    inner join predictions as second
        on second.expnum = first.expnum
        and second.ccdnum = first.ccdnum
        and second.night = first.night
        and second.camera = first.camera
    where first.model = $model and second.model = $other and first.ccdnum > 0

),

counted as (

    select camera, night, expnum, class, other_class, count(*) as n
    from compared
    group by camera, night, expnum, class, other_class

)

select
    camera,
    night,
    expnum,
    sum(n)::bigint as n_ccds,
    coalesce(sum(n) filter (where class <> other_class), 0)::bigint as n_differ,
    first(class order by n desc, class, other_class) as class,
    first(other_class order by n desc, class, other_class) as other_class,
    n_differ / n_ccds as entropy
from counted
group by camera, night, expnum
order by entropy desc, camera, expnum
