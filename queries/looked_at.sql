-- Exposures that somebody has judged, or is to judge in a round that is frozen. With $listed also
-- those of the lists and of the labels made from them.
select camera, expnum from rounds
union
select camera, expnum from inspections
union
select camera, expnum from reports where $listed and is_current and origin is null
union
select camera, expnum from labels where $listed and origin is null
