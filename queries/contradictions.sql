-- Exposures that one list calls bad and another looked at and left, or to which no two lists give
-- the same class.
with

opinions as (

    select
        camera,
        expnum,
        source,
        bool_or(is_bad) as is_bad,
        list_sort(list_distinct(flatten(list(classes) filter (where is_bad)))) as classes
    from reports
    where is_current
        and origin is null
        and ccdname is null
        and ($camera::varchar is null or camera = $camera)
    group by camera, expnum, source

),

pairs as (

    select
        a.camera,
        a.expnum,
        a.source as source_a,
        b.source as source_b,
        a.is_bad as bad_a,
        b.is_bad as bad_b,
        coalesce(a.classes, []) as classes_a,
        coalesce(b.classes, []) as classes_b
    from opinions as a
    inner join opinions as b
        on a.camera = b.camera and a.expnum = b.expnum and a.source < b.source

)

select
    camera,
    expnum,
    source_a,
    source_b,
    case when bad_a <> bad_b then 'bad or not' else 'class' end as about,
    bad_a,
    bad_b,
    array_to_string(classes_a, ',') as classes_a,
    array_to_string(classes_b, ',') as classes_b
from pairs
where bad_a <> bad_b
    or (
        bad_a and len(classes_a) > 0 and len(classes_b) > 0
        and not list_has_any(classes_a, classes_b)
    )
order by camera, expnum, source_a, source_b
