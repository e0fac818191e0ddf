//! The functions of ES|QL that take values and fields and look nowhere else. Others ask a model (`TEXT_EMBEDDING`), or
//! are not known.
//!
//! <https://www.elastic.co/docs/reference/query-languages/esql/esql-functions-operators>

/// Whether it is one of them; `name` is in small letters.
pub(super) fn is_plain(name: &str) -> bool {
    FUNCTIONS.iter().any(|row| row.split_ascii_whitespace().any(|known| known == name))
}

/// What may stand beside a name without a sign between them.
pub(super) fn links(word: &str) -> bool {
    const LINKS: [&str; 22] = [
        "and", "or", "not", "in", "like", "rlike", "is", "null", "nulls", "first", "last", "asc", "desc",
        "by", "on", "as", "with", "where", "score", "key", "group", "limit",
    ];
    LINKS.contains(&word)
}

/// What stands ahead of a parenthesis and is no function.
pub(super) fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 12] =
        ["and", "or", "not", "in", "like", "rlike", "by", "on", "where", "as", "with", "is"];
    KEYWORDS.contains(&word)
}

const FUNCTIONS: [&str; 12] = [
    // Of many rows.
    "absent all_first all_last avg count count_distinct earliest first last latest max median \
     median_absolute_deviation min percentile present sample sparkline st_centroid_agg st_extent_agg std_dev sum top \
     values variance weighted_avg",
    // Of many rows over a time.
    "absent_over_time avg_over_time count_distinct_over_time count_over_time delta deriv first_over_time idelta \
     increase irate last_over_time max_over_time min_over_time percentile_over_time present_over_time rate \
     stddev_over_time sum_over_time variance_over_time",
    // Groups.
    "bucket categorize tbucket",
    // Conditions.
    "case clamp clamp_max clamp_min coalesce greatest in_range least",
    // Dates and times.
    "date_diff date_extract date_format date_parse date_trunc date_unit_count day_name days_in_month month_name now \
     trange",
    // Addresses.
    "cidr_match ip_prefix network_direction",
    // Numbers.
    "abs acos acosh asin asinh atan atan2 atanh cbrt ceil copy_sign cos cosh e exp floor hypot log log10 pi pow round \
     round_to scalb signum sin sinh sqrt tan tanh tau v_cosine v_dot_product v_hamming v_l1_norm v_l2_norm v_magnitude",
    // Searches.
    "decay knn kql match match_phrase multi_match qstr score term",
    // Places.
    "st_buffer st_contains st_disjoint st_distance st_envelope st_geohash st_geohash_to_long st_geohash_to_string \
     st_geohex st_geohex_to_long st_geohex_to_string st_geotile st_geotile_to_long st_geotile_to_string st_intersects \
     st_npoints st_simplify st_within st_x st_xmax st_xmin st_y st_ymax st_ymin",
    // Texts.
    "bit_length byte_length chunk concat contains ends_with field_extract from_base64 hash json_extract left length \
     locate ltrim md5 repeat replace reverse right rtrim sha1 sha256 space split starts_with substring to_base64 \
     to_lower to_upper top_snippets trim url_decode url_encode url_encode_component",
    // Kinds of values.
    "to_aggregate_metric_double to_bool to_boolean to_cartesianpoint to_cartesianshape to_date_nanos to_datenanos \
     to_dateperiod to_datetime to_dbl to_degrees to_dense_vector to_double to_dt to_geohash to_geohex to_geopoint \
     to_geoshape to_geotile to_int to_integer to_ip to_long to_radians to_str to_string to_timeduration to_ul to_ulong \
     to_unsigned_long to_ver to_version",
    // Several values.
    "mv_append mv_avg mv_concat mv_contains mv_contains_all mv_count mv_dedupe mv_difference mv_first mv_intersection \
     mv_intersects mv_last mv_max mv_median mv_median_absolute_deviation mv_min mv_percentile mv_pseries_weighted_sum \
     mv_slice mv_sort mv_sum mv_union mv_zip",
];
