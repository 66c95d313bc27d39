"""The functions that a read-only query may use: they compute from their arguments, the rows and the clock, and do nothing
else.

Not on the lists: what reads or writes files (load_extension, pg_read_file, lo_import), other connections (dblink), SQL
given as a text (query_to_xml), settings (set_config), locks, sleep, sequences, and what only grows (repeat, lpad). What a
server adds is not on them either, until somebody has looked at it.
"""

from __future__ import annotations

_SQLITE = """
-> ->> abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos cosh count cume_dist
current_date current_time current_timestamp date datetime degrees dense_rank exp first_value floor format glob group_concat
hex if ifnull iif instr json json_array json_array_length json_each json_error_position json_extract json_group_array
json_group_object json_insert json_object json_patch json_pretty json_quote json_remove json_replace json_set json_type
json_valid jsonb jsonb_array jsonb_extract jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_patch
jsonb_remove jsonb_replace jsonb_set julianday lag last_value lead length like likelihood likely ln log log10 log2 lower
ltrim max median min mod nth_value ntile nullif octet_length percent_rank percentile percentile_cont percentile_disc pi
plain_text pow power printf quote radians random randomblob rank replace round row_number rtrim sign sin sinh soundex
sqlite_source_id sqlite_version sqrt strftime string_agg substr substring subtype sum tan tanh time timediff total trim
trunc typeof unhex unicode unistr unixepoch unlikely upper zeroblob
"""

_POSTGRESQL = """
abs acos acosh age any_value array_agg array_append array_cat array_dims array_length array_lower array_ndims array_position
array_positions array_prepend array_remove array_replace array_to_json array_to_string array_upper ascii asin asinh atan
atan2 atanh avg bit_and bit_length bit_or bit_xor bool bool_and bool_or bpchar btrim cardinality cbrt ceil ceiling char
char_length character_length chr coalesce concat concat_ws convert_from convert_to corr cos cosh count covar_pop covar_samp
cume_dist date date_bin date_part date_trunc decode degrees dense_rank div encode erf erfc every exp extract first_value
float4 float8 floor format gcd generate_series greatest initcap int2 int4 int8 interval isfinite json_agg
json_array_elements json_array_elements_text json_array_length json_build_array json_build_object json_each json_each_text
json_extract_path json_extract_path_text json_object json_object_agg json_object_keys json_strip_nulls json_to_record
json_to_recordset json_typeof jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array
jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_object jsonb_object_agg
jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first
jsonb_pretty jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof justify_days justify_hours justify_interval
lag last_value lcm lead least left length like ln log log10 lower ltrim make_date make_interval make_time make_timestamp max
md5 min min_scale mod mode name notlike now nth_value ntile nullif numeric octet_length overlaps overlay path percent_rank
percentile_cont percentile_disc pg_typeof pi plain_text position pow power quote_ident quote_literal quote_nullable radians
random rank regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
regexp_split_to_table regexp_substr regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy
regr_syy replace reverse right round row_number row_to_json scale sha224 sha256 sha384 sha512 sign sin sinh split_part sqrt
starts_with statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array string_to_table strpos substr
substring sum tan tanh text time timestamp timestamptz timezone to_char to_date to_hex to_json to_jsonb to_number
to_timestamp transaction_timestamp translate trim trim_array trim_scale trunc unnest upper var_pop var_samp varchar variance
width_bucket
"""

SQLITE = frozenset(_SQLITE.split())
POSTGRESQL = frozenset(_POSTGRESQL.split())

__all__ = ["POSTGRESQL", "SQLITE"]
