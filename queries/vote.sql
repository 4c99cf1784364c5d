-- Exposures as their CCDs vote: how many CCDs a model calls bad, and of what class most of them are.
with

ccd_votes as (

    select
        camera,
        night,
        expnum,
        class,
        probability,
        probabilities,
        class <> 'good' and probability >= $min_probability::float as is_bad
    from predictions
    where model = $model
        and night between $first_night and $last_night

),

counts as (

    select
        camera,
        night,
        expnum,
        count(*) as n_ccds,
        count(*) filter (where is_bad) as n_bad,
        avg(list_extract(probabilities, list_position(string_split($classes, ','), 'good')))
            as good_probability
    from ccd_votes
    group by all

),

verdicts as (

    select
        *,
        case
            when $min_ccds::integer is not null then n_bad >= $min_ccds
            else n_bad > 0 and n_bad >= $min_fraction::double * n_ccds
        end as is_bad
    from counts

),

-- Of two classes with as many CCDs, the one the model is surer of; then by name.
bad_classes as (

    select
        camera,
        night,
        expnum,
        class,
        row_number() over (
            partition by camera, night, expnum
            order by count(*) desc, sum(probability) desc, class
        ) as place
    from ccd_votes
    where is_bad
    group by camera, night, expnum, class

),

named as (

    select
        verdicts.*,
        case when verdicts.is_bad then bad_classes.class else 'good' end as class
    from verdicts
    left join bad_classes
        on bad_classes.camera = verdicts.camera
        and bad_classes.night = verdicts.night
        and bad_classes.expnum = verdicts.expnum
        and bad_classes.place = 1

),

-- Few exposures are bad; only their CCDs are looked at once more.
bad_means as (

    select
        named.camera,
        named.night,
        named.expnum,
        avg(
            list_extract(
                ccd_votes.probabilities,
                list_position(string_split($classes, ','), named.class)
            )
        ) as probability
    from named
    inner join ccd_votes using (camera, night, expnum)
    where named.is_bad
    group by all

)

select
    named.camera,
    named.night,
    named.expnum,
    named.n_ccds::integer as n_ccds,
    named.n_bad::integer as n_bad,
    named.class,
    coalesce(bad_means.probability, named.good_probability)::float as probability,
    named.is_bad
from named
left join bad_means using (camera, night, expnum)
order by camera, night, expnum
