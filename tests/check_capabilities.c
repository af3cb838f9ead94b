/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * What capabilities/ says is true: what it calls supported is carried out, and all else
 * that its value maps name is refused with 1 (Not Supported); through the whole engine
 * over files.
 */

#include "tests/unit.h"

#include <errno.h>
#include <stdbool.h>

#include "conf/capability.h"
#include "conf/cleanup.h"
#include "conf/setting.h"
#include "tests/whole.h"

static const char *text_of(enum capability_file file)
{
	static char bufs[4][8192];
	static unsigned next;
	char *buf = bufs[next++ % 4];
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	engine_capability_text(file, &b);
	snprintf(buf, 8192, "%s", b.len ? b.s : "");
	ck_assert_uint_lt(strlen(buf), 8000);
	return buf;
}

/* The line of a value, with all of the fields; "" = there is none. */
static const char *line_of(enum capability_file file, unsigned number, const char *field)
{
	static char lines[4][512];
	static unsigned next;
	const char *text = text_of(file), *end;
	char begin[16], *line = lines[next++ % 4];

	snprintf(begin, sizeof(begin), "%u ", number);
	for (; *text; text = end + 1) {
		end = strchr(text, '\n');
		ck_assert_ptr_nonnull(end);
		snprintf(line, 512, "%.*s", (int)(end - text), text);
		if (!strncmp(line, begin, strlen(begin)) &&
		    (!*field || strstr(line, field)))
			return line;
	}
	return "";
}

static bool has(enum capability_file file, unsigned number)
{
	return *line_of(file, number, "");
}

static const char *type_field(unsigned sync_type)
{
	static char fields[4][48];
	static unsigned next;
	char *field = fields[next++ % 4];

	snprintf(field, 48, "\tSyncType=%s", cim_name(&cim_sync_type, sync_type));
	return field;
}

/* Whether a CopyState is in a line's list of them. */
static bool lists_state(const char *line, unsigned state)
{
	const char *list = strstr(line, "\tCopyState=");
	const char *name = cim_name(&cim_copy_state, state);
	size_t len = strlen(name);

	if (!list)
		return false;
	for (list += strlen("\tCopyState="); *list && *list != '\t';
	     list += strcspn(list, ",\t"), list += *list == ',')
		if (!strncmp(list, name, len) &&
		    (!list[len] || list[len] == ',' || list[len] == '\t'))
			return true;
	return false;
}

static unsigned spec(uint64_t g, const char *text)
{
	char line[512];

	snprintf(line, sizeof(line), "%s\n", text);
	return whole_put(g, GROUP_SPEC, line, NULL);
}

static bool is_accepted(unsigned code)
{
	return code == CIM_RETURN_OK || code == CIM_RETURN_JOB_STARTED;
}

static void end(uint64_t g)
{
	whole_control(g, "ReturnToResourcePool", 0);
}

static const unsigned sync_types[] = { CIM_SYNC_SNAPSHOT, CIM_SYNC_CLONE };

/* ---- form ----------------------------------------------------------------------------- */

#define NAME_(symbol, name, kind, mode) [symbol] = name,
static const char *const names[] = { CAPABILITY_FILES(NAME_) };

START_TEST(a_line_is_a_value_with_number_and_name)
{
	for (unsigned file = 0; file < CAPABILITY_N_FILES; file++) {
		const char *text = text_of(file), *next;
		bool is_instance = file == CAP_DEFAULT_SETTINGS;

		for (; *text; text = next) {
			size_t digits = strspn(text, "0123456789");
			size_t len = strcspn(text, "\t\n");

			next = strchr(text, '\n');
			ck_assert_ptr_nonnull(next);
			next++;
			if (!is_instance)
				ck_assert_msg(digits && text[digits] == ' ' &&
						      len > digits + 1,
					      "%s: %s", names[file], text);
			else
				ck_assert_msg(memchr(text, '=', len), "%s", text);
			for (; text[len] == '\t'; len += strcspn(text + len, "\t\n")) {
				size_t n = strcspn(text + ++len, "=\t\n");

				ck_assert_msg(n && text[len + n] == '=', "%s: %s",
					      names[file], text);
			}
		}
	}
}
END_TEST

/* ---- types ---------------------------------------------------------------------------- */

START_TEST(each_type_is_carried_out_or_not_supported)
{
	unsigned n = 0;
	uint64_t g;

	whole_setup();
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t i = 0; i < cim_sync_type.n_values; i++)
		for (size_t k = 0; k < cim_mode.n_values; k++) {
			unsigned s = cim_sync_type.values[i].number;
			unsigned m = cim_mode.values[k].number;
			unsigned type = capability_type_of(s, m, false), code;
			char text[128];

			snprintf(text, sizeof(text),
				 "SourceElement=a SyncType=%u Mode=%u", s, m);
			code = spec(g, text);
			n += is_accepted(code);
			ROW_EQ(text, has(CAP_TYPES, type), is_accepted(code));
			ROW_EQ(text, has(CAP_TYPES_FOR_SYSTEM, type), is_accepted(code));
			ROW_EQ(text, has(CAP_TO_TYPE, type), is_accepted(code));
			ROW_EQ(text, has(CAP_TYPES, capability_type_of(s, m, true)),
			       false);
			if (is_accepted(code)) {
				ROW_HAS(text, line_of(CAP_TO_TYPE, type, ""),
					type_field(s));
				end(g);
			} else {
				ROW_EQ(text, code, CIM_RETURN_NOT_SUPPORTED);
			}
		}
	ck_assert_uint_ge(n, 4);
	ck_assert_uint_eq(capability_type_of(CIM_SYNC_CLONE, CIM_MODE_ASYNCHRONOUS, true),
			  CAPABILITY_ASYNC_CLONE_REMOTE);
	ck_assert_uint_eq(capability_type_of(CIM_SYNC_SNAPSHOT, CIM_MODE_ADAPTIVE, true),
			  CAPABILITY_ADAPTIVE_SNAPSHOT_REMOTE);
	whole_teardown();
}
END_TEST

/* ---- states, operations ------------------------------------------------------------------ */

/* g of a, in a state that lasts. */
static void make_in(uint64_t g, unsigned sync_type, unsigned state)
{
	char text[128];
	bool later = state == CIM_COPY_SKEWED || state == CIM_COPY_FRACTURED;

	snprintf(text, sizeof(text), "SourceElement=a SyncType=%u WaitForCopyState=%u",
		 sync_type, later ? CIM_COPY_SYNCHRONIZED : state);
	ck_assert_uint_eq(spec(g, text), 0);
	if (state == CIM_COPY_SKEWED)
		whole_fill("g_1", 9, 9);
	else if (state == CIM_COPY_FRACTURED)
		whole_control(g, "Fracture", 0);
	ck_assert_uint_eq(whole_state(g), state);
}

static const unsigned lasting[] = { CIM_COPY_INITIALIZED, CIM_COPY_INACTIVE,
				    CIM_COPY_PREPARED, CIM_COPY_SYNCHRONIZED,
				    CIM_COPY_SKEWED, CIM_COPY_FRACTURED };

/* A Snapshot cannot be Fractured. */
static bool is_of(unsigned sync_type, unsigned state)
{
	return sync_type == CIM_SYNC_CLONE || state != CIM_COPY_FRACTURED;
}

static void check_operation(uint64_t g, unsigned sync_type, unsigned state,
			    unsigned number)
{
	const char *line = line_of(CAP_GROUP_OPERATIONS, number, type_field(sync_type));
	const char *name = cim_name(&cim_operation, number);
	bool allowed = lists_state(line, state) && !strstr(line, "=Detaching");
	char text[64], row[160];
	unsigned code;

	snprintf(row, sizeof(row), "%s of a %s from %s", name,
		 cim_name(&cim_sync_type, sync_type), cim_name(&cim_copy_state, state));
	snprintf(text, sizeof(text), "%s\n", name);
	code = whole_put(g, GROUP_CONTROL, text, NULL);
	if (!*line)
		ROW_EQ(row, code, CIM_RETURN_NOT_SUPPORTED);
	else if (!allowed)
		ROW_EQ(row, code, CIM_RETURN_FAILED);
	else
		ROW_EQ(row, is_accepted(code), true);
	if (allowed && (number == CIM_OP_DETACH || number == CIM_OP_DISSOLVE))
		whole_until(!whole_info(g).has_relationship);
	else if (allowed && code == CIM_RETURN_JOB_STARTED)
		whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	ROW_STR_EQ(row, text_of(CAP_OPERATIONS), text_of(CAP_GROUP_OPERATIONS));
	if (!allowed)
		return;
	/* A new one for the next. */
	if (whole_info(g).has_relationship)
		end(g);
	ROW_EQ(row, whole_put(g, GROUP_MEMBERS, "\n", NULL), 0);
	if (whole_element("g_1"))
		ROW_EQ(row, whole_remove(ENGINE_ELEMENT, whole_element("g_1")), 0);
	make_in(g, sync_type, state);
}

START_TEST(each_operation_is_carried_out_where_it_says_or_not_supported)
{
	uint64_t g;

	whole_setup();
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t t = 0; t < ROWS(sync_types); t++)
		for (size_t s = 0; s < ROWS(lasting); s++) {
			if (!is_of(sync_types[t], lasting[s]))
				continue;
			make_in(g, sync_types[t], lasting[s]);
			for (size_t i = 0; i < cim_operation.n_values; i++)
				check_operation(g, sync_types[t], lasting[s],
						cim_operation.values[i].number);
			end(g);
		}
	whole_teardown();
}
END_TEST

START_TEST(each_state_that_occurs_is_one_of_its_type)
{
	uint64_t g;

	whole_setup();
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t t = 0; t < ROWS(sync_types); t++)
		for (size_t s = 0; s < ROWS(lasting); s++) {
			const char *row = cim_name(&cim_copy_state, lasting[s]);
			unsigned char buf[WHOLE_CHUNK];
			struct engine_handle *h;
			const char *line;

			if (!is_of(sync_types[t], lasting[s]))
				continue;
			make_in(g, sync_types[t], lasting[s]);
			line = line_of(CAP_COPY_STATES, lasting[s],
				       type_field(sync_types[t]));
			h = whole_open("g_1", false);
			ROW_HAS(row, line,
				whole_read(h, 3, buf) ? "\tHostAccessible=false" :
							"\tHostAccessible=true");
			engine_data_close(h);
			ROW_EQ(row,
			       *line_of(CAP_GROUP_COPY_STATES, lasting[s],
					type_field(sync_types[t])) != '\0',
			       true);
			end(g);
		}
	/* Of a Mirror only. */
	ck_assert(!has(CAP_COPY_STATES, CIM_COPY_SPLIT));
	ck_assert(!has(CAP_COPY_STATES, CIM_COPY_MIXED));
	ck_assert(has(CAP_GROUP_COPY_STATES, CIM_COPY_MIXED));
	ck_assert_str_eq(line_of(CAP_COPY_STATES, CIM_COPY_UNSYNCHRONIZED,
				 type_field(CIM_SYNC_SNAPSHOT)),
			 "");
	ck_assert_str_eq(line_of(CAP_COPY_STATES, CIM_COPY_UNSYNCHRONIZED, ""),
			 "3 Unsynchronized\tSyncType=Clone\tHostAccessible=true");
	whole_teardown();
}
END_TEST

START_TEST(each_state_can_be_waited_for_or_is_refused)
{
	uint64_t g;

	whole_setup();
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t t = 0; t < ROWS(sync_types); t++)
		for (size_t i = 0; i < cim_copy_state.n_values; i++) {
			unsigned state = cim_copy_state.values[i].number, code;
			char text[128];

			snprintf(text, sizeof(text),
				 "SourceElement=a SyncType=%u WaitForCopyState=%u",
				 sync_types[t], state);
			code = spec(g, text);
			ROW_EQ(text,
			       *line_of(CAP_WAIT_STATES, state,
					type_field(sync_types[t])) != '\0',
			       is_accepted(code));
			if (is_accepted(code))
				end(g);
			else /* interface section 4 */
				ROW_EQ(text, code, CIM_RETURN_INVALID_PARAMETER);
		}
	whole_teardown();
}
END_TEST

/* ---- features ------------------------------------------------------------------------------ */

/* A spec that tries a parameter; whether it was taken.  Else it was not supported. */
static bool takes(const char *name, const char *text)
{
	uint64_t g = whole_make(ENGINE_GROUP, name);
	struct engine_command cmd;
	unsigned code;

	whole_put(g, GROUP_SPEC, text, &cmd);
	code = cmd.outcome.code;
	ck_assert_msg(is_accepted(code) || code == CIM_RETURN_NOT_SUPPORTED, "%s: %s",
		      text, cmd.outcome.sentence);
	if (is_accepted(code))
		end(g);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), 0);
	return is_accepted(code);
}

START_TEST(features_are_there_or_refused)
{
	bool counted, grouped;
	uint64_t g, h;

	whole_daemon("\n[setting thick]\nThinProvisioningPolicy = 3\n");
	whole_setup();
	whole_group("src", "a b");
	whole_make(ENGINE_GROUP, "none");
	counted = takes("g", "SourceElement=a SyncType=Clone TargetElementCount=2\n");
	grouped = takes("g", "SourceElement=a SyncType=Clone TargetGroup=none\n");
	ck_assert_int_eq(has(CAP_GROUP_FEATURES, CAPABILITY_ONE_TO_MANY), counted);
	ck_assert_int_eq(has(CAP_GROUP_FEATURES, CAPABILITY_TARGET_COUNT), counted);
	ck_assert_int_eq(has(CAP_GROUP_FEATURES, CAPABILITY_NO_TARGET_GROUP), !grouped);
	ck_assert_int_eq(has(CAP_GROUP_FEATURES, CAPABILITY_NO_TARGET_GOAL),
			 !takes("g", "SourceElement=a SyncType=Clone "
				     "TargetSettingGoal=thick\n"));
	ck_assert_int_eq(has(CAP_GROUP_FEATURES, CAPABILITY_NO_TARGET_POOL),
			 !takes("g", "SourceElement=a SyncType=Clone TargetPool=p\n"));
	ck_assert_int_eq(has(CAP_FEATURES, CAPABILITY_ANY_POOL), 1);
	ck_assert_int_eq(
		has(CAP_GROUP_FEATURES, CAPABILITY_RELATIONSHIP_NAME),
		takes("g", "SourceElement=a SyncType=Clone RelationshipName=n\n"));
	ck_assert_int_eq(has(CAP_GROUP_FEATURES, CAPABILITY_MANY_TO_MANY),
			 takes("g", "SourceGroup=src SyncType=Clone\n"));
	/* Groups: nameable, empty, temporary, with members of others. */
	g = whole_make(ENGINE_GROUP, "named");
	ck_assert(has(CAP_FEATURES, CAPABILITY_GROUPS) &&
		  has(CAP_GROUP_FEATURES, CAPABILITY_NAMED_GROUPS) &&
		  has(CAP_GROUP_FEATURES, CAPABILITY_EMPTY_GROUPS) &&
		  has(CAP_GROUP_FEATURES, CAPABILITY_TEMPORARY_GROUPS) &&
		  has(CAP_GROUP_FEATURES, CAPABILITY_MANY_GROUPS));
	ck_assert_uint_eq(whole_put(g, GROUP_PERSISTENT, "false\n", NULL), 0);
	ck_assert_uint_eq(whole_put(g, GROUP_MEMBERS, "b a c\n", NULL), 0);
	ck_assert_str_eq(line_of(CAP_DEFAULT_PERSISTENCY, 2, ""), "2 Persistent");
	h = whole_make(ENGINE_GROUP, "default");
	ck_assert(whole_info(h).persistent);
	/* A detached Snapshot is written and copied like any other element. */
	ck_assert(has(CAP_FEATURES, CAPABILITY_DETACHED_IS_VOLUME));
	ck_assert_uint_eq(spec(h, "SourceElement=a SyncType=Snapshot"), 0);
	whole_control(h, "Detach", CIM_RETURN_JOB_STARTED);
	whole_wait_state(h, CIM_COPY_NOT_APPLICABLE);
	whole_fill("default_1", 1, 1);
	ck_assert(takes("g", "SourceElement=default_1 SyncType=Snapshot\n"));
	/* What is missing says so. */
	ck_assert_int_eq(has(CAP_FEATURES, CAPABILITY_ADJUSTABLE_PRIORITY),
			 setting_is_supported(setting_find("CopyPriority"),
					      CIM_SYNC_CLONE));
	ck_assert_str_eq(text_of(CAP_LIST_OPERATIONS), "");
	ck_assert_str_eq(text_of(CAP_TOKENIZED), "");
	whole_teardown();
	whole_daemon("");
}
END_TEST

START_TEST(actions_answer_as_they_are_listed)
{
	uint64_t g, h;

	whole_setup();
	/* Those of groups are done at once, ... */
	g = whole_make(ENGINE_GROUP, "g");
	ck_assert(has(CAP_SYNCHRONOUS, CAPABILITY_CREATE_GROUP));
	ck_assert_uint_eq(whole_put(g, GROUP_MEMBERS, "+a +b\n", NULL), 0);
	ck_assert(has(CAP_SYNCHRONOUS, CAPABILITY_ADD_MEMBERS));
	ck_assert_uint_eq(whole_put(g, GROUP_MEMBERS, "-b\n", NULL), 0);
	ck_assert(has(CAP_SYNCHRONOUS, CAPABILITY_REMOVE_MEMBERS));
	/* ... the others at once or by a job. */
	h = whole_replica("h", "SourceGroup=g SyncType=Snapshot", 0);
	ck_assert(has(CAP_SYNCHRONOUS, CAPABILITY_CREATE_GROUP_REPLICA));
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_RELATIONSHIPS), "h source\n");
	ck_assert(has(CAP_SYNCHRONOUS, CAPABILITY_GET_RELATIONSHIPS));
	whole_control(h, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_job(h).state == CIM_JOB_COMPLETED);
	ck_assert(has(CAP_ASYNCHRONOUS, CAPABILITY_MODIFY_SYNCHRONIZATION));
	end(h);
	ck_assert(has(CAP_SYNCHRONOUS, CAPABILITY_MODIFY_SYNCHRONIZATION));
	ck_assert_uint_eq(spec(h, "SourceGroup=g SyncType=Clone"),
			  CIM_RETURN_JOB_STARTED);
	ck_assert(has(CAP_ASYNCHRONOUS, CAPABILITY_CREATE_GROUP_REPLICA));
	end(h);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), 0);
	ck_assert(has(CAP_SYNCHRONOUS, CAPABILITY_DELETE_GROUP));
	/* LUNs and files of them; no directories, no file systems. */
	ck_assert_str_eq(text_of(CAP_OBJECTS), "2 StorageVolume\n");
	whole_teardown();
}
END_TEST

/* ---- settings ------------------------------------------------------------------------------- */

/* Whether a value is in the line of its property. */
static bool lists_value(const char *line, const char *value)
{
	const char *list = strstr(line, "\tSupportedValues=");
	size_t len = strlen(value);

	if (!list)
		return false;
	for (list += strlen("\tSupportedValues="); *list;
	     list += strcspn(list, ","), list += *list == ',')
		if (!strncmp(list, value, len) && (!list[len] || list[len] == ','))
			return true;
	return false;
}

/* The line of a property: CopyPriority has no number of its own. */
static const char *setting_line(int property, unsigned sync_type)
{
	const char *line = line_of(CAP_SETTINGS, setting_code(property),
				   type_field(sync_type));

	ck_assert(!*line || strstr(line, setting_names[property]));
	return line;
}

static void check_value(int property, unsigned sync_type, const char *value)
{
	bool listed = lists_value(setting_line(property, sync_type), value);
	bool needs_targets =
		!strcmp(value, "Use existing") || !strcmp(value, "Client must supply");
	char text[256];

	/* With what it needs, and without what it excludes. */
	snprintf(text, sizeof(text),
		 "SourceElement=image_1\nSyncType=%u\nConsistency=2\n%s"
		 "[ReplicationSettingData]\n%s=%s\n[Run]\n",
		 sync_type, needs_targets && listed ? "TargetGroup=targets\n" : "",
		 setting_names[property], value);
	ROW_EQ(text, takes("g", text), listed);
}

START_TEST(each_setting_is_carried_out_or_not_supported)
{
	static const char *const texts[] = { "true", "false",
					     "00000000000500.000000:000" };
	unsigned n = 0;
	uint64_t g;

	whole_setup();
	whole_group("targets", "b");
	g = whole_replica("image",
			  "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized",
			  0);
	whole_control(g, "Detach", 0);
	for (int i = 0; i < SETTING_N_PROPERTIES; i++)
		for (unsigned t = 0; t < ROWS(sync_types); t++)
			for (unsigned k = 0; k < ROWS(texts) + 12; k++) {
				char value[SETTING_VALUE_SIZE], error[256], number[16];
				const char *text = number;

				if (k < ROWS(texts))
					text = texts[k];
				else
					snprintf(number, sizeof(number), "%zu",
						 k - ROWS(texts));
				if (setting_check(i, text, value, error, sizeof(error)) ||
				    (text == number && (!strcmp(value, "true") ||
							!strcmp(value, "false"))))
					continue;
				check_value(i, sync_types[t], value);
				n++;
			}
	ck_assert_uint_ge(n, 150);
	whole_teardown();
}
END_TEST

static bool has_default(unsigned sync_type, const char *name, const char *value)
{
	char line[160];

	snprintf(line, sizeof(line), "%s=%s%s\n", name, value, type_field(sync_type));
	return strstr(text_of(CAP_DEFAULT_SETTINGS), line);
}

START_TEST(the_defaults_are_those_of_a_spec_without_any)
{
	for (size_t t = 0; t < ROWS(sync_types); t++) {
		unsigned s = sync_types[t];
		struct group_info info;
		char text[64];
		uint64_t g;

		whole_setup();
		whole_group("src", "a b");
		g = whole_make(ENGINE_GROUP, "g");
		snprintf(text, sizeof(text), "SourceGroup=src SyncType=%u", s);
		ck_assert(is_accepted(spec(g, text)));
		info = whole_info(g);
		ck_assert(has_default(s, "CopyPriority",
				      cim_name(&cim_copy_priority, info.copy_priority)));
		ck_assert(has_default(
			s, "CopyRecoveryMode",
			cim_name(&cim_copy_recovery_mode, info.copy_recovery_mode)));
		ck_assert(has_default(s, "FailedCopyStopsHostIO",
				      info.failed_copy_stops_host_io ? "true" : "false"));
		ck_assert(has_default(s, "DesiredCopyMethodology",
				      cim_name(&cim_copy_methodology,
					       whole_pair(g, 1).copy_methodology)));
		/* With Sequential Consistency there is one all the same
		 * (check_contract gives them all, and finds the same answer). */
		ck_assert(has_default(s, "ConsistentPointInTime", "false"));
		ck_assert(has_default(s, "Pairing", "Exact order"));
		ck_assert_str_eq(whole_pair(g, 2).source, "b");
		ck_assert_int_eq(
			has(CAP_DEFAULT_CONSISTENCY, CIM_CONSISTENCY_TYPE_SEQUENTIAL),
			info.consistency == CIM_CONSISTENCY_SEQUENTIAL);
		ck_assert_int_eq(has(CAP_CONSISTENCY, CIM_CONSISTENCY_TYPE_SEQUENTIAL),
				 info.consistency == CIM_CONSISTENCY_SEQUENTIAL);
		whole_teardown();
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_line_is_a_value_with_number_and_name,
		each_type_is_carried_out_or_not_supported,
		each_operation_is_carried_out_where_it_says_or_not_supported,
		each_state_that_occurs_is_one_of_its_type,
		each_state_can_be_waited_for_or_is_refused,
		features_are_there_or_refused,
		actions_answer_as_they_are_listed,
		each_setting_is_carried_out_or_not_supported,
		the_defaults_are_those_of_a_spec_without_any,
	};

	return unit_main("capabilities", tests, ROWS(tests));
}
