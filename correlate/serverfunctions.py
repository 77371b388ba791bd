"""Which functions are the server's own: what is given to any other may be anybody's.

In: a function's name. Out: whether PostgreSQL (up to 18), or an extension that comes with it, has a
function of that name, which does with its arguments what is known. Functions that run a text as SQL
(`dblink`), hand it to others (`pg_notify`) or encrypt (`crypt`) aren't in the list, on purpose.
"""

# pg_proc of PostgreSQL 15 without operators', types' and indexes' support functions; newer ones;
# contrib modules.
_LISTED = """
    hashtext hashtextextended hashint4 hashint8 hashint8extended hash_array regclass regtype macaddr
    inet_merge inet_same_family xid dblink_connect dblink_connect_u dblink_disconnect dblink_get_connections dblink_error_message
    dblink_is_busy dblink_get_result dblink_fetch dblink_close abbrev abs acldefault aclexplode acos acosd acosh age akeys amvalidate any_value area
    array_agg array_append array_cat array_dims array_fill array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_reverse
    array_sample array_shuffle array_sort array_to_json array_to_string array_to_tsvector
    array_upper ascii asin asind asinh atan atan2 atan2d atand atanh avals avg bit bit_and
    bit_count bit_length bit_or bit_xor bool bool_and bool_or box bpchar brin_desummarize_range
    brin_summarize_new_values brin_summarize_range broadcast btrim bytea cardinality casefold
    cash_words cbrt ceil ceiling center char_length character_length chr cidr circle
    clock_timestamp coalesce col_description concat concat_ws convert convert_from convert_to
    corr cos cosd cosh cot cotd count covar_pop covar_samp crc32 crc32c create_hypertable cube
    cube_distance cume_dist current_database current_query current_schema current_schemas
    current_setting current_user currtid2 currval daitch_mokotoff database_to_xml
    database_to_xml_and_xmlschema database_to_xmlschema date date_add date_bin date_part
    date_subtract date_trunc datemultirange daterange daterange_canonical daterange_subdiff
    decode defined degrees delete dense_rank dexp diagonal diameter difference div dlog1 dlog10
    dmetaphone dmetaphone_alt dround dtrunc each earth_box earth_distance encode enum_first
    enum_last enum_range enum_send erf erfc every exist exp extract factorial family first
    first_value float4 float8 floor fmgr_c_validator fmgr_internal_validator fmgr_sql_validator
    format format_type gamma gcd gen_random_bytes gen_random_uuid gen_salt generate_series
    generate_subscripts get_bit get_byte get_current_ts_config getdatabaseencoding getpgusername
    gin_clean_pending_list greatest grouping has_any_column_privilege has_column_privilege
    has_database_privilege has_foreign_data_wrapper_privilege has_function_privilege
    has_language_privilege has_parameter_privilege has_schema_privilege has_sequence_privilege
    has_server_privilege has_table_privilege has_tablespace_privilege has_type_privilege height
    host hostmask hstore idx inet inet_client_addr inet_client_port inet_server_addr
    inet_server_port initcap int2 int4 int4inc int4multirange int4range int4range_canonical
    int4range_subdiff int8 int8_sum int8multirange int8range int8range_canonical
    int8range_subdiff interval is_normalized isclosed isempty isfinite ishorizontal isopen
    isparallel isperp isvertical json json_agg json_array json_array_element
    json_array_element_text json_array_elements json_array_elements_text json_array_length
    json_arrayagg json_build_array json_build_object json_each json_each_text json_exists
    json_extract_path json_extract_path_text json_object json_object_agg json_object_field
    json_object_field_text json_object_keys json_objectagg json_populate_record
    json_populate_recordset json_query json_scalar json_serialize json_strip_nulls json_table
    json_to_record json_to_recordset json_to_tsvector json_typeof json_value jsonb jsonb_agg
    jsonb_array_element jsonb_array_element_text jsonb_array_elements jsonb_array_elements_text
    jsonb_array_length jsonb_build_array jsonb_build_object jsonb_concat jsonb_contains
    jsonb_delete jsonb_delete_path jsonb_each jsonb_each_text jsonb_exists jsonb_exists_all
    jsonb_exists_any jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object
    jsonb_object_agg jsonb_object_field jsonb_object_field_text jsonb_object_keys
    jsonb_path_exists jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz jsonb_path_query
    jsonb_path_query_array jsonb_path_query_array_tz jsonb_path_query_first
    jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset
    jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
    jsonb_to_tsvector jsonb_typeof justify_days justify_hours justify_interval lag last
    last_value lastval lca lcm lead least left length levenshtein levenshtein_less_equal lgamma
    like like_escape line ll_to_earth ln lo_close lo_creat lo_create lo_export lo_get lo_import
    lo_lseek lo_lseek64 lo_open lo_tell lo_tell64 lo_truncate lo_truncate64 lo_unlink log log10
    lower lower_inc lower_inf lpad lseg ltrim macaddr8_set7bit make_date make_interval make_time
    make_timestamp make_timestamptz makeaclitem masklen max md5 metaphone min min_scale mod mode
    money multirange mxid_age name nameconcatoid netmask network nextval nlevel normalize
    notlike now npoints nth_value ntile nullif num_nonnulls num_nulls numeric numeric_div_trunc
    numeric_exp numeric_inc numeric_ln numeric_log numeric_sqrt nummultirange numnode numrange
    numrange_subdiff obj_description octet_length oid oidvectortypes overlaps overlay
    parse_ident path pclose percent_rank percentile_cont percentile_disc phraseto_tsquery pi
    plainto_tsquery plpgsql_call_handler plpgsql_validator point polygon popen position
    postgresql_fdw_validator pow power querytree quote_ident quote_literal quote_nullable
    radians radius random random_normal range_agg range_contains range_intersect_agg range_merge
    range_overlaps rank regexp_count regexp_instr regexp_like regexp_match regexp_matches
    regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr regr_avgx regr_avgy
    regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy repeat replace
    reverse right round row row_number row_security_active row_to_json rpad rtrim
    satisfies_hash_partition scale schema_to_xml schema_to_xml_and_xmlschema schema_to_xmlschema
    session_user set_bit set_byte set_config set_limit set_masklen setseed setval setweight
    sha224 sha256 sha384 sha512 shobj_description show_limit show_trgm sign similar_escape
    similar_to_escape similarity sin sind sinh skeys slope sort soundex split_part sqrt
    starts_with statement_timestamp stddev stddev_pop stddev_samp strict_word_similarity
    string_agg string_to_array string_to_table strip strpos subltree subpath substr substring
    sum svals system_user table_to_xml table_to_xml_and_xmlschema table_to_xmlschema tan tand
    tanh text textcat textlen time time_bucket timeofday timestamp timestamptz timetz timezone
    to_ascii to_bin to_char to_date to_hex to_json to_jsonb to_number to_oct to_regclass
    to_regcollation to_regnamespace to_regoper to_regoperator to_regproc to_regprocedure
    to_regrole to_regtype to_timestamp to_tsquery to_tsvector transaction_timestamp translate
    trim trim_array trim_scale trunc ts_debug ts_delete ts_filter ts_headline ts_lexize ts_parse
    ts_rank ts_rank_cd ts_token_type tsmultirange tsquery_and tsquery_not tsquery_or
    tsquery_phrase tsrange tsrange_subdiff tstzmultirange tstzrange tstzrange_subdiff
    tsvector_concat tsvector_to_array txid_current txid_current_if_assigned
    txid_current_snapshot txid_snapshot_xip txid_snapshot_xmax txid_snapshot_xmin txid_status
    txid_visible_in_snapshot unaccent uniq unistr unnest upper upper_inc upper_inf uuid
    uuid_extract_timestamp uuid_extract_version uuid_generate_v1 uuid_generate_v1mc
    uuid_generate_v4 uuidv4 uuidv7 var_pop var_samp varbit varchar variance version
    websearch_to_tsquery width width_bucket word_similarity xml xml_is_well_formed
    xml_is_well_formed_content xml_is_well_formed_document xmlagg xmlcomment xmlexists xmltext
    xmlvalidate xpath xpath_exists
    """
_NAMES = frozenset(_LISTED.split())
_HANDING_ON = frozenset({"pg_notify", "pg_logical_emit_message"})

_RUNNERS = """
    dblink dblink_exec dblink_open dblink_send_query query_to_xml query_to_xmlschema
    query_to_xml_and_xmlschema ts_stat ts_rewrite crosstab crosstab2 crosstab3 crosstab4
    schedule schedule_in_database
    """
RUN_SQL = frozenset(_RUNNERS.split())
"""An argument of theirs is a statement; others are names, or say where to connect to."""


def is_own(name: str) -> bool:
    """A function of the server, by its name in lower case; PostGIS's count too."""
    if name.startswith(("pg_", "st_")):
        return name not in _HANDING_ON
    return name in _NAMES
