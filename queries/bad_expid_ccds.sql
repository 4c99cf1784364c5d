-- CCDs that a model calls bad with some certainty, on exposures that are not bad as a whole.
with

certainties as (

    select
        model,
        camera,
        expnum,
        ccdnum,
        class,
        -- Of being bad at all, whatever the class: good is every model's first.
        coalesce(1 - probabilities[1], probability)::float as probability
    from predictions
    where class <> 'good'

),

judgements as (

    select
        expnum,
        is_bad,
        -- Where the vote says that an exposure has bad CCDs, each needs less certainty of its own.
        case
            when class = 'good' then $min_probability
            else least($min_probability, $confirms)
        end::float as min_probability
    from votes
    where model = $model and camera = $camera

),

bad_ccds as (

    select
        certainties.expnum,
        certainties.ccdnum,
        certainties.class,
        certainties.probability
    from certainties
    left join judgements using (expnum)
    where
        certainties.model = $model
        and certainties.camera = $camera
        and not coalesce(judgements.is_bad, false)
        and certainties.probability >= coalesce(judgements.min_probability, $min_probability::float)

),

names as (

    -- As the tables spell them: the list's reader compares names letter by letter.
    select
        ccds.expnum,
        ccds.ccdnum,
        max(ccds.ccdname) as ccdname
    from ccds
    semi join bad_ccds on bad_ccds.expnum = ccds.expnum and bad_ccds.ccdnum = ccds.ccdnum
    where ccds.camera = $camera
    group by ccds.expnum, ccds.ccdnum

)

select
    bad_ccds.expnum,
    bad_ccds.ccdnum,
    names.ccdname,
    bad_ccds.class,
    bad_ccds.probability
from bad_ccds
left join names using (expnum, ccdnum)
order by bad_ccds.expnum, bad_ccds.ccdnum
