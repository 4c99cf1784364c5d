-- CCDs that more than one list calls bad: what they say, and whether they agree on a class.
with

said as (

    select
        release,
        camera,
        night,
        expnum,
        ccdnum,
        any_value(ccdname) as ccdname,
        source,
        list(class order by class) filter (where class is not null) as classes
    from labels
    where origin is null and ($release::varchar is null or release = $release)
    group by release, camera, night, expnum, ccdnum, source

),

compared as (

    select
        release,
        camera,
        night,
        expnum,
        ccdnum,
        any_value(ccdname) as ccdname,
        string_agg(source, ',' order by source) as sources,
        string_agg(
            source || ': ' || coalesce(list_aggregate(classes, 'string_agg', ' + '), 'no class'),
            '; ' order by source
        ) as opinions,
        count(classes) as n_with_class,
        -- A class that every list with a class gives.
        list_filter(
            list_distinct(flatten(list(classes) filter (where classes is not null))),
            lambda class: list_count(
                list_filter(
                    list(classes) filter (where classes is not null),
                    lambda others: list_contains(others, class)
                )
            ) = count(classes)
        ) as shared
    from said
    group by release, camera, night, expnum, ccdnum
    having count(*) > 1

)

select
    release,
    camera,
    night,
    expnum,
    ccdnum,
    ccdname,
    sources,
    opinions,
    case
        when n_with_class < 2 then 'no second class'
        when len(shared) > 0 then 'agree'
        else 'contradict'
    end as verdict,
    case when verdict = 'agree' then array_to_string(list_sort(shared), ',') end as shared_classes
from compared
order by release_order(release), camera, night, expnum, ccdnum
