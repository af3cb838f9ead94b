/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/status.h"

#include <jansson.h>

#include "conf/cim.h"
#include "conf/config.h"
#include "fs/statusjson.h"
#include "tests/unit.h"

static struct group_info copying(void)
{
	struct group_info info = {
		.name = "nightly",
		.has_relationship = true,
		.copy_state = CIM_COPY_UNSYNCHRONIZED,
		.sync_type = CIM_SYNC_CLONE,
		.percent_synced = 37,
		.bytes_per_second = 120500000,
		.seconds_left = 3723,
		.job = 4,
	};

	return info;
}

static void check_line(const struct group_info *info, const char *wanted)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	status_add_line(&b, info, 24);
	ck_assert_str_eq(b.s, wanted);
}

START_TEST(a_line_shows_state_bar_rate_and_time_left)
{
	struct group_info info = copying();

	check_line(&info, "nightly                  Unsynchronized   37% "
			  "[#######.............]  120.5 MB/s   1:02:03\n");
}
END_TEST

START_TEST(a_line_ends_with_what_is_waited_for)
{
	struct group_info info = copying();

	info.bytes_per_second = 0;
	snprintf(info.waiting_for, sizeof(info.waiting_for),
		 "db0: no connection for 95 s");
	check_line(&info, "nightly                  Unsynchronized   37% "
			  "[#######.............]                        "
			  "db0: no connection for 95 s\n");
}
END_TEST

START_TEST(a_line_shows_what_is_done_with_a_replica_that_is_there)
{
	struct group_info info = copying();

	info.copy_state = CIM_COPY_SYNCHRONIZED;
	info.percent_synced = 100;
	strcpy(info.doing, "Restoring");
	info.doing_percent = 37;
	check_line(&info, "nightly                  Restoring        37% "
			  "[#######.............]  120.5 MB/s   1:02:03\n");
}
END_TEST

START_TEST(a_group_without_relationship_has_a_short_line)
{
	struct group_info info = { .name = "prod" };

	check_line(&info, "prod                     -\n");
}
END_TEST

START_TEST(lines_begin_below_the_head)
{
	CLEANUP_STRBUF struct strbuf head = STRBUF_INIT;
	CLEANUP_STRBUF struct strbuf line = STRBUF_INIT;
	struct group_info info = copying();

	strcpy(info.name, "a-name-of-the-greatest-length-xx");
	status_add_head(&head, 32);
	status_add_line(&line, &info, 32);
	ck_assert_ptr_nonnull(strstr(head.s, "STATE"));
	ck_assert_int_eq(strstr(head.s, "STATE") - head.s,
			 strstr(line.s, "Unsynchronized") - line.s);
	ck_assert_int_eq(strstr(head.s, "RATE") + strlen("RATE") - head.s,
			 strstr(line.s, "MB/s") + strlen("MB/s") - line.s);
}
END_TEST

static json_t *parse(const struct strbuf *b)
{
	json_error_t error;
	json_t *j = json_loads(b->s, 0, &error);

	ck_assert_msg(j, "%s: %s", error.text, b->s);
	return j;
}

START_TEST(json_has_numbers_beside_names)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	struct group_info info = copying();
	json_t *j;

	statusjson_group(&b, &info);
	ck_assert_ptr_null(strchr(b.s, '\n'));
	j = parse(&b);
	ck_assert_str_eq(json_string_value(json_object_get(j, "CopyState")),
			 "Unsynchronized");
	ck_assert_int_eq(json_integer_value(json_object_get(j, "CopyStateNumber")), 3);
	ck_assert_int_eq(json_integer_value(json_object_get(j, "PercentSynced")), 37);
	ck_assert_int_eq(json_integer_value(json_object_get(j, "seconds_left")), 3723);
	ck_assert_ptr_null(json_object_get(j, "WhenSynced"));
	json_decref(j);
}
END_TEST

START_TEST(json_survives_any_bytes)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	struct element_info info = { .name = "db0",
				     .vendor = "\xff\xfe",
				     .error = "a \"quoted\"\n\\text" };
	json_t *j;

	statusjson_element(&b, &info);
	j = parse(&b);
	ck_assert_str_eq(json_string_value(json_object_get(j, "vendor")), "?");
	ck_assert_str_eq(json_string_value(json_object_get(j, "error")),
			 "a \"quoted\"\n\\text");
	json_decref(j);
}
END_TEST

START_TEST(the_whole_file_is_json_with_a_schema)
{
	static const char *const lists[] = { "groups", "elements", "jobs", "pools" };
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	struct config_pool pool = { .name = "pool0", .path = (char *)"/pool" };
	struct config config = { .pools = &pool, .n_pools = 1 };
	struct engine *engine;
	char *error;
	json_t *j;

	ck_assert_int_eq(engine_new(&config, &engine, &error), 0);
	ck_assert_int_eq(status_json(engine, &b), 0);
	j = parse(&b);
	ck_assert_int_eq(json_integer_value(json_object_get(j, "schema")),
			 STATUSJSON_SCHEMA);
	for (size_t i = 0; i < ROWS(lists); i++)
		ck_assert(json_is_array(json_object_get(j, lists[i])));
	ck_assert_uint_eq(json_array_size(json_object_get(j, "pools")), 1);
	json_decref(j);
	engine_free(engine);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_line_shows_state_bar_rate_and_time_left,
		a_line_ends_with_what_is_waited_for,
		a_line_shows_what_is_done_with_a_replica_that_is_there,
		a_group_without_relationship_has_a_short_line,
		lines_begin_below_the_head,
		json_has_numbers_beside_names,
		json_survives_any_bytes,
		the_whole_file_is_json_with_a_schema,
	};

	return unit_main("status", tests, ROWS(tests));
}
