-- A model's votes against legacypipe's cuts: both, only ours, only theirs (section 5).
-- Only exposures that voted and that the release has are compared.
with

masks as (

    select coalesce(bit_or(value), 0) as mask
    from cut_bits
    where not list_contains($ignore::varchar[], name)

),

voted as (

    select
        exposures.release,
        exposures.camera,
        exposures.night,
        exposures.expnum,
        votes.class,
        votes.is_bad as ours,
        coalesce(exposures.ccd_cuts & masks.mask, 0) as cuts,
        coalesce(exposures.ccd_cuts, 0) <> cuts as has_ignored,
        exposures.n_cut,
        exposures.n_ccds
    from votes
    inner join exposures using (camera, night, expnum)
    cross join masks
    where votes.model = $model
        and (len($releases::varchar[]) = 0 or list_contains($releases, exposures.release))

),

-- Where some CCDs have ignored bits, those with others are counted one by one.
recounted as (

    select
        ccds.release,
        ccds.camera,
        ccds.expnum,
        count(*) filter (where ccds.ccd_cuts & masks.mask <> 0) as n_cut
    from ccds
    semi join (
        select release, camera, night, expnum from voted where cuts <> 0 and has_ignored
    ) as mixed using (release, camera, night, expnum)
    cross join masks
    group by ccds.release, ccds.camera, ccds.expnum

),

compared as (

    select
        voted.release,
        voted.class,
        voted.ours,
        voted.cuts,
        coalesce(recounted.n_cut, voted.n_cut) as cut_ccds,
        -- An exposure counts as rejected when legacypipe cuts this share of its CCDs.
        voted.cuts <> 0
        and cut_ccds > 0
        and cut_ccds >= $min_fraction::double * voted.n_ccds as theirs
    from voted
    left join recounted using (release, camera, expnum)

),

judged as (

    select *, coalesce(theirs, false) as is_rejected
    from compared

),

slices as (

    select release, 'all' as part, 0 as place, 'all' as name, ours, is_rejected
    from judged
    union all
    select judged.release, 'class', coalesce(classes.number, 999), judged.class, ours, is_rejected
    from judged
    left join classes on classes.name = judged.class
    union all
    select judged.release, 'bit', cut_bits.bit, cut_bits.name, ours, is_rejected
    from judged
    inner join cut_bits on judged.cuts & cut_bits.value <> 0

)

select
    release,
    part,
    name,
    count(*) filter (where ours and is_rejected) as in_both,
    count(*) filter (where ours and not is_rejected) as only_ours,
    count(*) filter (where not ours and is_rejected) as only_theirs,
    count(*) filter (where not ours and not is_rejected) as neither,
    count(*) as n_exposures
from slices
group by release, part, place, name
order by release_order(release), array_position(['all', 'class', 'bit'], part), place, name
