/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The contract of CreateGroupReplica: each row of contract_rows.c is written to a `spec`
 * of the whole engine over files, as one line and as INI.  What is refused has changed
 * nothing; what is accepted reads back.  That each parameter and value of the code's
 * tables has its row is a test of its own.
 */

#include "tests/contract.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>

#include "conf/cim.h"
#include "conf/setting.h"
#include "conf/spec.h"
#include "engine/store.h"
#include "tests/dump.h"
#include "tests/unit.h"
#include "tests/whole.h"

/* ---- the world ----------------------------------------------------------------------- */

enum { SPEC_SIZE = 2048 };

static uint64_t base_files; /* of the pool, when nothing is under way */

static bool is_ready(const char *element)
{
	struct element_info info;

	engine_element_info(engine, whole_element(element), &info);
	return info.operational_status == CIM_STATUS_OK && info.known;
}

/* What a worker deletes is gone. */
static void wait_files(const char *text)
{
	for (int i = 0; i < 10000 && whole_files("") != base_files; i++)
		usleep(1000);
	ROW_EQ(text, whole_files(""), base_files);
}

static const char settings[] =
	"[access_point ap]\nportal = 127.0.0.1:3\n"
	/* Of ReplicationSettingData. */
	"[setting plain]\nshared_method = none\n"
	"[setting quiet]\nshared_method = quiesce\n"
	"quiesce_command = true\nthaw_command = true\n"
	"[setting careful]\nCopyRecoveryMode = Manual\nCopyPriority = Low\n"
	"[setting slow]\nmax_bytes_per_second = 1M\n"
	"[setting scan]\nshared_method = double-scan\n"
	"[setting delta]\nDeltaUpdateBlocks = 8\n"
	"[setting full]\nDesiredCopyMethodology = Full Copy\n"
	"[setting going]\nOnGroupOrListError = Continue\n"
	/* Of TargetSettingGoal. */
	"[setting thin]\nThinProvisioningPolicy = 4\n"
	"[setting vault]\nThinProvisioningPolicy = 3\nReadOnly = SyncedElement\n"
	"[setting both]\nReadOnly = Both\n";

static void begin_with(const char *daemon)
{
	char lines[sizeof(settings) + 64];
	uint64_t group;

	snprintf(lines, sizeof(lines), "%s%s", daemon, settings);
	whole_daemon(lines);
	whole_setup();
	whole_file("t1", WHOLE_LUN);
	whole_file("t2", WHOLE_LUN * 2);
	whole_file("t3", WHOLE_LUN / 2);
	whole_make(ENGINE_ELEMENT, "taken_1");
	for (const char *name = "abcfs"; *name; name++) {
		const char element[] = { *name, '\0' };

		whole_until(is_ready(element));
	}
	whole_group("prod", "a b");
	whole_group("mixed", "a s");
	whole_group("mine", "t1");
	whole_group("luns", "t1 t2");
	whole_group("ones", "t1");
	whole_group("smalls", "t3");
	whole_group("shareds", "s");
	whole_group("useds", "c");
	whole_make(ENGINE_GROUP, "empty");
	whole_make(ENGINE_GROUP, "g");
	whole_replica("live", "SyncType=Snapshot SourceElement=c", 0);
	whole_group("image", "live_1");
	dump_settle();
	/* Its own file stays. */
	base_files = whole_files("") + 1;
	group = whole_replica("kept", "SyncType=8 SourceElement=c WaitForCopyState=4", 0);
	whole_control(group, "Detach", 0);
	wait_files("kept");
	dump_settle();
}

static void begin(void)
{
	begin_with("");
}

static bool is_slow(void)
{
	return getenv("LUNFS_TEST_SLOW");
}

/* Of many alike; where it is slow, a few will do. */
static bool is_next(void)
{
	static unsigned n;

	return n++ % (is_slow() ? 7 : 1) == 0;
}

/* valgrind has not all that the commands of a setting need. */
static bool can_run(const char *text)
{
	return !is_slow() || !strstr(text, "=quiet");
}

/* ---- texts --------------------------------------------------------------------------- */

static bool is_whole(const char *text)
{
	return strchr(text, '\n');
}

/* The same call as INI: a parameter a line, without quotes. */
static const char *as_ini(const char *text, char *ini, size_t size)
{
	bool quoted = false;
	size_t n = 0;

	for (; *text; text++) {
		ck_assert_uint_lt(n + 8, size);
		if (*text == '"')
			quoted = !quoted;
		else if (*text == ' ' && !quoted)
			ini[n++] = '\n';
		else
			ini[n++] = *text;
	}
	snprintf(ini + n, size - n, "\n[Run]\n");
	return ini;
}

/* What `spec` has to read back. */
static const char *as_read(const char *words, char *text, size_t size)
{
	size_t n;

	snprintf(text, size, "%s%s|[Run]|",
		 strncmp(words, "RelationshipName=", 17) != 0 ? "RelationshipName=g|" :
								"",
		 words);
	n = strlen(text);
	ck_assert_uint_lt(n + 1, size);
	for (size_t i = 0; i < n; i++)
		if (text[i] == '|')
			text[i] = '\n';
	return text;
}

static uint64_t group_of(const struct contract_row *row)
{
	return engine_find(engine, ENGINE_GROUP, 0, row->group ? row->group : "g");
}

/* ---- a row --------------------------------------------------------------------------- */

static struct outcome refusal; /* of the newest row */

/* late: what fails when ids were drawn already. */
static void check_refused(const struct contract_row *row, const char *text, bool late)
{
	CLEANUP_STRBUF struct strbuf before = STRBUF_INIT, after = STRBUF_INIT;
	struct engine_command cmd;

	dump_add(&before, !late);
	whole_put(group_of(row), GROUP_SPEC, text, &cmd);
	if (late)
		wait_files(text);
	dump_add(&after, !late);
	ck_assert_msg(cmd.outcome.code == row->code && cmd.outcome.error == row->error,
		      "%s: code %u, errno %d: %s", text, cmd.outcome.code,
		      cmd.outcome.error, cmd.outcome.sentence);
	ROW_HAS(text, cmd.outcome.sentence, row->words);
	ROW_STR_EQ(text, dump_difference(&before, &after), "");
	refusal = cmd.outcome;
}

/* A thaw_command that still runs has its row. */
static bool is_held(void)
{
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	dump_add(&b, false);
	return strstr(b.s, "row of hold:");
}

static void end_relationship(uint64_t group)
{
	whole_control(group, "ReturnToResourcePool", 0);
	ck_assert(!whole_info(group).has_relationship);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, group, GROUP_SPEC), "");
	wait_files("the end");
	whole_until(!is_held());
}

/* Job, TargetGroup and Synchronization: a job where the code says so, and only there. */
static void check_outputs(const struct contract_row *row, const char *text,
			  uint64_t group)
{
	struct group_info info = whole_info(group);

	ROW_EQ(text, info.has_relationship, true);
	ROW_EQ(text, info.job != 0, row->code == CIM_RETURN_JOB_STARTED);
	ROW_HAS(text, row->words, cim_name(&cim_sync_type, info.sync_type));
	ck_assert_str_ne(whole_pair(group, 1).target, "");
	if (!strstr(row->words, "TargetGroup="))
		ROW_HAS(text, whole_list(ENGINE_GROUP, group, GROUP_MEMBERS),
			whole_pair(group, 1).target);
}

/* spec: what it reads back. */
static void check_accepted(const struct contract_row *row, const char *text,
			   char spec[static SPEC_SIZE])
{
	uint64_t group = group_of(row);
	struct engine_command cmd;
	char want[512];

	whole_put(group, GROUP_SPEC, text, &cmd);
	ck_assert_msg(cmd.outcome.code == row->code && !cmd.outcome.error,
		      "%s: code %u, errno %d: %s", text, cmd.outcome.code,
		      cmd.outcome.error, cmd.outcome.sentence);
	ck_assert_str_eq(cmd.outcome.sentence, "");
	check_outputs(row, text, group);
	snprintf(spec, SPEC_SIZE, "%s", whole_list(ENGINE_GROUP, group, GROUP_SPEC));
	ROW_STR_EQ(text, spec, as_read(row->words, want, sizeof(want)));
	end_relationship(group);
}

/* Many rows read back as one that was written already. */
static bool is_new(const char *spec)
{
	static struct strbuf written = STRBUF_INIT;

	if (written.len && strstr(written.s, spec))
		return false;
	strbuf_adds(&written, spec);
	ck_assert(!written.failed);
	return true;
}

static void check_text(const struct contract_row *row, const char *text)
{
	char spec[SPEC_SIZE], again[SPEC_SIZE];

	if (row->error) {
		check_refused(row, text, false);
		return;
	}
	check_accepted(row, text, spec);
	/* And what it reads back is the same call. */
	if (is_new(spec))
		check_accepted(row, spec, again);
}

static void check_row(const struct contract_row *row)
{
	char text[512];

	if (!is_next())
		return;
	if (is_whole(row->text)) {
		check_text(row, row->text);
		return;
	}
	snprintf(text, sizeof(text), "%s\n", row->text);
	check_text(row, text);
	if (row->error)
		check_text(row, as_ini(row->text, text, sizeof(text)));
}

START_TEST(each_row_is_answered_as_it_says)
{
	size_t n = 0;

	begin();
	for (size_t t = 0; t < contract_n_tables; t++)
		for (size_t i = 0; i < contract_tables[t].n; i++, n++)
			if (can_run(contract_tables[t].rows[i].text))
				check_row(&contract_tables[t].rows[i]);
	printf("%zu rows\n", n);
	ck_assert_uint_ge(n, 200);
	whole_teardown();
}
END_TEST

START_TEST(what_was_accepted_reads_back_after_a_restart)
{
	static const char text[] =
		"RelationshipName=r SyncType=8 Mode=3 SourceGroup=prod "
		"TargetGroup=empty Consistency=2 TargetPool=p "
		"ReplicationSettingData=plain WaitForCopyState=2\n";
	char spec[512];
	uint64_t g;

	begin();
	g = engine_find(engine, ENGINE_GROUP, 0, "g");
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, text, NULL), 0);
	snprintf(spec, sizeof(spec), "%s", whole_list(ENGINE_GROUP, g, GROUP_SPEC));
	ck_assert_str_eq(spec, "RelationshipName=r\nSyncType=Clone\nMode=Asynchronous\n"
			       "SourceGroup=prod\nTargetGroup=empty\n"
			       "Consistency=No Consistency\n"
			       "ReplicationSettingData=plain\nTargetPool=p\n"
			       "WaitForCopyState=Initialized\n[Run]\n");
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_SPEC), spec);
	whole_teardown();
}
END_TEST

/* ---- each parameter ------------------------------------------------------------------- */

START_TEST(no_parameter_is_given_twice_or_without_a_value)
{
	begin();
	for (size_t i = 0; i < spec_n_parameters; i++) {
		struct contract_row row = { .code = CIM_RETURN_INVALID_PARAMETER,
					    .error = EINVAL };
		struct spec_about about;
		char text[256], words[64];

		spec_about(i, &about);
		if (about.is_output)
			continue;
		row.words = words;
		snprintf(words, sizeof(words), "%s is given twice", about.name);
		snprintf(text, sizeof(text), "%s=8 SyncTyp=1 %s=8", about.name,
			 about.name);
		row.text = text;
		/* Names come first: it is unknown before it is twice. */
		row.words = "unknown parameter \"SyncTyp\"";
		check_row(&row);
		row.words = words;
		snprintf(text, sizeof(text), "%s=8 %s=8", about.name, about.name);
		check_row(&row);
		snprintf(text, sizeof(text), "%s=8 %s=9", about.name, about.name);
		check_row(&row);
		snprintf(words, sizeof(words), "%s has no value", about.name);
		snprintf(text, sizeof(text), "%s= Mode=3", about.name);
		if (strcmp(about.name, "Mode") != 0)
			check_row(&row);
		snprintf(text, sizeof(text), "%s=\"\" Consistency=3", about.name);
		if (strcmp(about.name, "Consistency") != 0)
			check_row(&row);
	}
	whole_teardown();
}
END_TEST

/* ---- properties ------------------------------------------------------------------------ */

static uint32_t code_of(const struct contract_value *v, unsigned sync_type)
{
	return sync_type == CIM_SYNC_SNAPSHOT ? v->snapshot : v->clone;
}

/* The sentence names the property, and the SyncType if it hangs on that. */
static void check_sentence(const char *section, const struct contract_property *p,
			   const struct contract_value *v, unsigned sync_type)
{
	char words[128];

	snprintf(words, sizeof(words), "[%s]: %s", section, p->name);
	ROW_HAS(v->value, refusal.sentence, *v->value ? words : p->name);
	snprintf(words, sizeof(words), " is not supported for a %s",
		 cim_name(&cim_sync_type, sync_type));
	if (refusal.code == CIM_RETURN_NOT_SUPPORTED && !strstr(v->words, "vendor"))
		ROW_HAS(v->value, refusal.sentence, words);
}

static void check_value(const char *section, const struct contract_property *p,
			const struct contract_value *v, unsigned sync_type)
{
	char begin[160], text[320], words[320], spec[SPEC_SIZE];
	struct contract_row row = { .code = code_of(v, sync_type), .words = v->words };

	snprintf(begin, sizeof(begin),
		 "SyncType=%s\n%s[%s]\n%s=", cim_name(&cim_sync_type, sync_type),
		 v->parameters ? v->parameters : p->parameters, section, p->name);
	snprintf(text, sizeof(text), "%s%s\n[Run]\n", begin, v->value);
	if (!is_next())
		return;
	if (row.code) {
		row.error = row.code == CIM_RETURN_NOT_SUPPORTED ? EOPNOTSUPP : EINVAL;
		check_refused(&row, text, false);
		check_sentence(section, p, v, sync_type);
		return;
	}
	/* What it does, its own tests know. */
	snprintf(words, sizeof(words), "%s%s", begin, v->words);
	row.words = words;
	row.code = sync_type == CIM_SYNC_CLONE ? CIM_RETURN_JOB_STARTED : CIM_RETURN_OK;
	check_accepted(&row, text, spec);
}

/* A copy for each SyncType is enough for the two forms of a value that is taken: a
 * Snapshot for the number, a Clone for the name. */
static void check_forms(const char *section, const struct contract_property *p,
			const struct contract_value *v)
{
	unsigned lowest;
	bool has_forms = setting_map(setting_find(p->name), &lowest);
	bool one = has_forms && !v->snapshot && !v->clone;
	bool is_number = isdigit((unsigned char)*v->value);

	if (!one || is_number)
		check_value(section, p, v, CIM_SYNC_SNAPSHOT);
	if (!one || !is_number)
		check_value(section, p, v, CIM_SYNC_CLONE);
}

static void check_properties(const char *section,
			     const struct contract_property *properties, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < properties[i].n; k++)
			check_forms(section, &properties[i], &properties[i].values[k]);
}

static void check_invalid(const char *words, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void check_invalid(const char *words, const char *fmt, ...)
{
	const struct contract_row row = { .code = CIM_RETURN_INVALID_PARAMETER,
					  .error = EINVAL,
					  .words = words };
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	check_refused(&row, text, false);
}

static bool is_goal(const char *property)
{
	for (size_t i = 0; i < setting_n_goal_names; i++)
		if (!strcmp(setting_goal_names[i], property))
			return true;
	return false;
}

#define CALL "SyncType=Clone\nSourceElement=a\n"

START_TEST(a_property_stands_once_and_in_its_section)
{
	begin();
	for (int i = 0; i < SETTING_N_PROPERTIES; i++) {
		const char *name = setting_names[i];
		char words[128];

		snprintf(words, sizeof(words), "%s is given twice, in line 4 and line 5",
			 name);
		check_invalid(words, CALL "[ReplicationSettingData]\n%s=1\n%s=2\n[Run]\n",
			      name, name);
		if (is_goal(name))
			check_invalid(words,
				      CALL "[TargetSettingGoal]\n%s=1\n%s=1\n[Run]\n",
				      name, name);
		snprintf(words, sizeof(words),
			 "[TargetSettingGoal]: unknown property \"%s\"; ", name);
		if (!is_goal(name))
			check_invalid(words, CALL "[TargetSettingGoal]\n%s=1\n[Run]\n",
				      name);
		snprintf(words, sizeof(words),
			 "%s is a property, not a parameter; give it in the section",
			 name);
		check_invalid(words, CALL "%s=1\n[Run]\n", name);
		check_invalid(words, "%s=1 SyncType=8 SourceElement=a\n", name);
		snprintf(words, sizeof(words), "did you mean \"%s\"?", name);
		check_invalid(words, CALL "[ReplicationSettingData]\n%sx=1\n[Run]\n",
			      name);
	}
	whole_teardown();
}
END_TEST

START_TEST(each_property_is_carried_out_or_refused_by_name)
{
	begin();
	check_properties("ReplicationSettingData", contract_properties,
			 contract_n_properties);
	check_properties("TargetSettingGoal", contract_goals, contract_n_goals);
	whole_teardown();
}
END_TEST

/* ---- the rows cover the tables of the code ------------------------------------------------ */

/* Whether the text gives a parameter that value. */
static bool gives(const char *text, const char *parameter, const char *value)
{
	char token[128];
	size_t len;

	snprintf(token, sizeof(token), strchr(value, ' ') ? "%s=\"%s\"" : "%s=%s",
		 parameter, value);
	len = strlen(token);
	for (const char *at = text; (at = strstr(at, token)); at++)
		if ((at == text || strchr(" \t\n", at[-1])) &&
		    strchr(" \t\n", at[len])) /* or the NUL */
			return true;
	return false;
}

enum answer { ACCEPTED, NOT_SUPPORTED, INVALID };

static bool answers(const struct contract_row *row, enum answer answer)
{
	switch (answer) {
	case ACCEPTED:
		return !row->error;
	case NOT_SUPPORTED:
		return row->code == CIM_RETURN_NOT_SUPPORTED;
	case INVALID:
		break;
	}
	return row->code == CIM_RETURN_INVALID_PARAMETER;
}

/* Fails if no row has that value with that answer. */
static void cover(const char *parameter, const char *value, enum answer answer)
{
	static const char *const names[] = { "is accepted", "is not supported",
					     "is invalid" };

	for (size_t t = 0; t < contract_n_tables; t++)
		for (size_t i = 0; i < contract_tables[t].n; i++)
			if (gives(contract_tables[t].rows[i].text, parameter, value) &&
			    answers(&contract_tables[t].rows[i], answer))
				return;
	ck_abort_msg("no row of contract_rows.c says that %s=%s %s", parameter, value,
		     names[answer]);
}

static void cover_number(const char *parameter, unsigned number, enum answer answer)
{
	char value[16];

	snprintf(value, sizeof(value), "%u", number);
	cover(parameter, value, answer);
}

static void cover_gap(const char *parameter, unsigned first, unsigned last)
{
	if (first > last)
		return;
	cover_number(parameter, first, INVALID);
	cover_number(parameter, last, INVALID);
}

static void cover_map(const struct spec_about *about)
{
	unsigned next = 0;

	for (size_t i = 0; i < about->map->n_values; i++) {
		const struct cim_value *value = &about->map->values[i];
		enum answer answer =
			!(about->valid >> value->number & 1) ? INVALID :
			!(about->built >> value->number & 1) ? NOT_SUPPORTED :
							       ACCEPTED;

		cover_number(about->name, value->number, answer);
		cover(about->name, value->name, answer);
		if (value->number)
			cover_gap(about->name, next, value->number - 1);
		next = value->number + 1;
	}
	cover_gap(about->name, next, 32767);
	cover_number(about->name, 32768, NOT_SUPPORTED);
	cover_number(about->name, 65535, NOT_SUPPORTED);
	cover_number(about->name, 65536, INVALID);
}

/* ---- of properties */

static const struct contract_property *find_property(const struct contract_property *rows,
						     size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	ck_abort_msg("no row of contract_settings.c has the property %s", name);
	return NULL;
}

static const struct contract_value *find_value(const struct contract_property *p,
					       const char *value)
{
	for (size_t i = 0; i < p->n; i++)
		if (!strcmp(p->values[i].value, value))
			return &p->values[i];
	ck_abort_msg("no row of contract_settings.c has %s=%s", p->name, value);
	return NULL;
}

/* That there is a row of it, and that it says what the tables say. */
static void cover_value(const struct contract_property *p, const char *value)
{
	static const unsigned sync_types[] = { CIM_SYNC_SNAPSHOT, CIM_SYNC_CLONE };
	const struct contract_value *v = find_value(p, value);
	int property = setting_find(p->name);
	char canonical[SETTING_VALUE_SIZE], error[512];
	int r = setting_check(property, value, canonical, error, sizeof(error));

	for (size_t i = 0; i < ROWS(sync_types); i++) {
		int r1 = r ? r :
			     setting_check_supported(property, canonical, sync_types[i],
						     error, sizeof(error));

		ROW_EQ(value, code_of(v, sync_types[i]),
		       r1 == -EOPNOTSUPP ? CIM_RETURN_NOT_SUPPORTED :
		       r1		 ? CIM_RETURN_INVALID_PARAMETER :
					   CIM_RETURN_OK);
	}
}

static void cover_value_number(const struct contract_property *p, unsigned number)
{
	char value[16];

	snprintf(value, sizeof(value), "%u", number);
	cover_value(p, value);
}

static void cover_value_map(const struct contract_property *p, const struct cim_map *map)
{
	unsigned next = 0;

	for (size_t i = 0; i < map->n_values; i++) {
		unsigned number = map->values[i].number;

		if (number > next) {
			cover_value_number(p, next);
			cover_value_number(p, number - 1);
		}
		cover_value_number(p, number);
		cover_value(p, setting_value_name(map, number));
		next = number + 1;
	}
	cover_value_number(p, next);
	cover_value_number(p, 32767);
	cover_value_number(p, 32768);
	cover_value_number(p, 65535);
	cover_value_number(p, 65536);
	cover_value(p, "nonsense");
}

/* Without a map: what it takes is found out, so that one of a new type fails. */
static void cover_plain(const struct contract_property *p)
{
	static const struct {
		const char *first, *last, *wrong;
	} types[] = {
		{ "true", "false", "tru" },
		{ "0", "18446744073709551615", "18446744073709551616" },
		{ "1", "65535", "65536" },
		{ "00000000000000.000000:000", "99999999235959.999999:000", "300" },
	};
	int property = setting_find(p->name);
	char canonical[SETTING_VALUE_SIZE], error[512];

	for (size_t i = 0; i < ROWS(types); i++) {
		if (setting_check(property, types[i].first, canonical, error,
				  sizeof(error)) < 0 ||
		    setting_check(property, types[i].last, canonical, error,
				  sizeof(error)) < 0)
			continue;
		cover_value(p, types[i].first);
		cover_value(p, types[i].last);
		cover_value(p, types[i].wrong);
		return;
	}
	ck_assert_msg(!setting_type(property), "%s: of what type is it?", p->name);
	cover_value(p, "1");
}

static void cover_null(const struct contract_property *p, unsigned sync_type,
		       const char *null, bool has_null)
{
	int property = setting_find(p->name);
	char value[SETTING_VALUE_SIZE], error[512];
	bool has = has_null && setting_format_default(property, sync_type, value);

	ROW_STR_EQ(p->name, has ? value : "nothing", null ? null : "nothing");
	/* What can be set at all can be set to what it is without. */
	if (has && setting_is_supported(property, sync_type))
		ROW_EQ(p->name,
		       setting_check_supported(property, value, sync_type, error,
					       sizeof(error)),
		       0);
}

static void cover_properties(const char *const *names, size_t n,
			     const struct contract_property *rows, size_t n_rows)
{
	for (size_t i = 0; i < n; i++) {
		const struct contract_property *p = find_property(rows, n_rows, names[i]);
		bool has_null = rows == contract_properties;
		unsigned lowest;
		const struct cim_map *map = setting_map(setting_find(p->name), &lowest);

		if (map)
			cover_value_map(p, map);
		else
			cover_plain(p);
		cover_value(p, "1.5");
		find_value(p, "");
		cover_null(p, CIM_SYNC_SNAPSHOT, p->null_of_snapshot, has_null);
		cover_null(p, CIM_SYNC_CLONE, p->null_of_clone, has_null);
	}
	ck_assert_uint_eq(n_rows, n);
}

START_TEST(each_property_and_value_has_its_row)
{
	cover_properties(setting_names, SETTING_N_PROPERTIES, contract_properties,
			 contract_n_properties);
	cover_properties(setting_goal_names, setting_n_goal_names, contract_goals,
			 contract_n_goals);
}
END_TEST

/* ---- of parameters */

/* A row whose value is a name of so many bytes. */
static const struct contract_row *row_of_length(const char *parameter, size_t len)
{
	char begin[64];
	size_t n;

	n = (size_t)snprintf(begin, sizeof(begin), "%s=", parameter);
	for (size_t t = 0; t < contract_n_tables; t++)
		for (size_t i = 0; i < contract_tables[t].n; i++) {
			const char *text = contract_tables[t].rows[i].text;
			const char *at = strstr(text, begin);

			if (at && strcspn(at + n, " \n") == len &&
			    (at == text || strchr(" \n", at[-1])))
				return &contract_tables[t].rows[i];
		}
	ck_abort_msg("no row of contract_rows.c has a %s of %zu bytes", parameter, len);
	return NULL;
}

START_TEST(each_parameter_and_value_has_its_row)
{
	for (size_t i = 0; i < spec_n_parameters; i++) {
		struct spec_about about;

		spec_about(i, &about);
		ck_assert_str_ne(about.null, "");
		if (about.is_output) {
			ROW_EQ(about.name, row_of_length(about.name, 1)->code, 5);
		} else if (about.map) {
			cover_map(&about);
		} else if (about.max_len) {
			ROW_EQ(about.name,
			       row_of_length(about.name, about.max_len)->error ==
				       ENAMETOOLONG,
			       false);
			ROW_EQ(about.name,
			       row_of_length(about.name, about.max_len + 1)->error,
			       ENAMETOOLONG);
		} else {
			cover(about.name, "0", INVALID);
			cover(about.name, "1", ACCEPTED);
			cover(about.name, "2",
			      about.max_count < 2 ? NOT_SUPPORTED : ACCEPTED);
			cover(about.name, "two", INVALID);
			cover(about.name, "18446744073709551616", INVALID);
		}
	}
}
END_TEST

/* ---- NULL ----------------------------------------------------------------------------------- */

struct null_row {
	const char *parameter;
	const char *text;
	uint32_t code;
	bool (*holds)(const struct group_info *info, uint64_t group);
};

static bool named_as_the_group(const struct group_info *info, uint64_t group)
{
	(void)group;
	return !strcmp(info->relationship_name, "g") &&
	       !strcmp(whole_pair(group, 2).target, "g_2");
}

static bool asynchronous(const struct group_info *info, uint64_t group)
{
	(void)group;
	return info->mode == CIM_MODE_ASYNCHRONOUS;
}

static bool of_the_element(const struct group_info *info, uint64_t group)
{
	(void)group;
	return !strcmp(info->source, "../../elements/a");
}

static bool of_the_group(const struct group_info *info, uint64_t group)
{
	(void)group;
	return !strcmp(info->source, "../prod");
}

static bool targets_in_the_group(const struct group_info *info, uint64_t group)
{
	(void)info;
	return !strcmp(whole_list(ENGINE_GROUP, group, GROUP_MEMBERS), "g_1\ng_2\n");
}

static bool one_target(const struct group_info *info, uint64_t group)
{
	(void)info;
	return !strcmp(whole_list(ENGINE_GROUP, group, GROUP_MEMBERS), "g_1\n");
}

static bool sequential(const struct group_info *info, uint64_t group)
{
	(void)group;
	return info->consistency == CIM_CONSISTENCY_SEQUENTIAL &&
	       info->consistency_state == CIM_CONSISTENCY_STATE_CONSISTENT;
}

static bool sequential_once_complete(const struct group_info *info, uint64_t group)
{
	(void)group;
	return info->consistency == CIM_CONSISTENCY_SEQUENTIAL;
}

static bool not_consistent(const struct group_info *info, uint64_t group)
{
	(void)group;
	return info->consistency == CIM_CONSISTENCY_NONE &&
	       info->consistency_state == CIM_CONSISTENCY_STATE_INCONSISTENT;
}

/* Of [ReplicationSettingData], what shows; contract_properties[] has all of it. */
static bool defaults(const struct group_info *info, uint64_t group)
{
	unsigned methodology = info->sync_type == CIM_SYNC_SNAPSHOT ?
				       CIM_METHODOLOGY_COPY_ON_WRITE :
				       CIM_METHODOLOGY_FULL_COPY;

	return info->copy_priority == CIM_PRIORITY_SAME &&
	       info->copy_recovery_mode == CIM_RECOVERY_AUTOMATIC &&
	       whole_pair(group, 1).copy_methodology == methodology &&
	       !info->failed_copy_stops_host_io;
}

static bool thin(const struct group_info *info, uint64_t group)
{
	struct element_info target;

	(void)info;
	engine_element_info(engine, whole_element(whole_pair(group, 1).target), &target);
	return target.thin && target.exclusive && !target.read_only;
}

static bool in_the_default_pool(const struct group_info *info, uint64_t group)
{
	(void)info;
	(void)group;
	return strstr(whole_list(ENGINE_POOL, engine_find(engine, ENGINE_POOL, 0, "p"),
				 POOL_IMAGES),
		      "g_1\n");
}

static bool copies(const struct group_info *info, uint64_t group)
{
	(void)group;
	return info->copy_state == CIM_COPY_UNSYNCHRONIZED ||
	       info->copy_state == CIM_COPY_SYNCHRONIZED;
}

/* What holds without the parameter; those without a `holds` are refused so. */
static const struct null_row null_rows[] = {
	{ "RelationshipName", "SyncType=8 SourceGroup=prod", 4096, named_as_the_group },
	{ "SyncType", "Mode=3 SourceGroup=prod", 5, NULL },
	{ "Mode", "SyncType=8 SourceGroup=prod", 4096, asynchronous },
	{ "Mode", "SyncType=7 SourceGroup=prod", 0, asynchronous },
	{ "SourceGroup", "SyncType=8 SourceElement=a", 4096, of_the_element },
	{ "SourceGroup", "SyncType=8 Mode=3", 5, NULL },
	{ "SourceElement", "SyncType=8 SourceGroup=prod", 4096, of_the_group },
	{ "SourceAccessPoint", "SyncType=8 SourceElement=a", 4096, of_the_element },
	{ "TargetGroup", "SyncType=8 SourceGroup=prod", 4096, targets_in_the_group },
	{ "TargetElementCount", "SyncType=8 SourceElement=a", 4096, one_target },
	{ "TargetAccessPoint", "SyncType=8 SourceElement=a", 4096, one_target },
	{ "Consistency", "SyncType=8 SourceGroup=prod", 4096, sequential },
	{ "Consistency", "SyncType=7 SourceGroup=prod", 0, sequential },
	{ "Consistency", "SyncType=8 SourceGroup=mixed", 4096, not_consistent },
	{ "Consistency", "SyncType=8 SourceGroup=mixed ReplicationSettingData=quiet",
	  4096, sequential_once_complete },
	{ "ReplicationSettingData", "SyncType=8 SourceGroup=prod", 4096, defaults },
	{ "ReplicationSettingData", "SyncType=7 SourceGroup=prod", 0, defaults },
	{ "TargetSettingGoal", "SyncType=8 SourceGroup=prod", 4096, thin },
	{ "TargetPool", "SyncType=8 SourceGroup=prod", 4096, in_the_default_pool },
	{ "WaitForCopyState", "SyncType=8 SourceGroup=prod", 4096, copies },
};

static bool has_null_row(const char *parameter)
{
	for (size_t i = 0; i < ROWS(null_rows); i++)
		if (!strcmp(null_rows[i].parameter, parameter))
			return true;
	return false;
}

START_TEST(what_is_left_out_has_its_meaning)
{
	begin();
	for (size_t i = 0; i < ROWS(null_rows); i++) {
		const struct null_row *row = &null_rows[i];
		uint64_t g = engine_find(engine, ENGINE_GROUP, 0, "g");
		struct group_info info;
		char text[128];

		if (!can_run(row->text))
			continue;
		ck_assert_ptr_null(strstr(row->text, row->parameter));
		snprintf(text, sizeof(text), "%s\n", row->text);
		ROW_EQ(text, whole_put(g, GROUP_SPEC, text, NULL), row->code);
		info = whole_info(g);
		ROW_EQ(text, info.has_relationship, row->holds != NULL);
		if (!row->holds)
			continue;
		ck_assert_msg(row->holds(&info, g), "%s without %s", text,
			      row->parameter);
		end_relationship(g);
	}
	for (size_t i = 0; i < spec_n_parameters; i++) {
		struct spec_about about;

		spec_about(i, &about);
		ROW_EQ(about.name, has_null_row(about.name), !about.is_output);
	}
	whole_teardown();
}
END_TEST

/* All of what is carried out, as GetDefaultReplicationSettingData has it. */
static void add_defaults(unsigned sync_type, struct strbuf *b)
{
	char value[SETTING_VALUE_SIZE];

	strbuf_adds(b, "[ReplicationSettingData]\n");
	for (int i = 0; i < SETTING_N_PROPERTIES; i++)
		if (setting_is_supported(i, sync_type) &&
		    setting_format_default(i, sync_type, value))
			strbuf_addf(b, "%s=%s\n", setting_names[i], value);
}

/* The code; what the relationship is like in *b. */
static uint32_t answer_to(const char *text, struct strbuf *b)
{
	uint64_t g = engine_find(engine, ENGINE_GROUP, 0, "g");
	struct engine_command cmd;
	struct group_info i;

	whole_put(g, GROUP_SPEC, text, &cmd);
	i = whole_info(g);
	strbuf_addf(b, "%s: %u %u %u %u %d %u", cmd.outcome.sentence, i.consistency,
		    i.consistency_state, i.copy_priority, i.copy_recovery_mode,
		    i.failed_copy_stops_host_io, i.mode);
	if (i.has_relationship) {
		strbuf_addf(b, " %u", whole_pair(g, 1).copy_methodology);
		end_relationship(g);
	}
	return cmd.outcome.code;
}

START_TEST(the_defaults_given_are_the_call_without_them)
{
	static const struct {
		unsigned sync_type;
		const char *parameters;
		uint32_t code;
	} rows[] = {
		{ CIM_SYNC_SNAPSHOT, "SourceGroup=prod", 0 },
		{ CIM_SYNC_SNAPSHOT, "SourceGroup=prod\nConsistency=2", 0 },
		{ CIM_SYNC_SNAPSHOT, "SourceGroup=mixed", 1 },
		{ CIM_SYNC_CLONE, "SourceGroup=prod", 4096 },
		{ CIM_SYNC_CLONE, "SourceGroup=prod\nConsistency=2", 4096 },
		{ CIM_SYNC_CLONE, "SourceGroup=mixed", 4096 },
		{ CIM_SYNC_CLONE, "SourceGroup=mixed\nConsistency=2", 4096 },
		{ CIM_SYNC_CLONE, "SourceGroup=mixed\nConsistency=3", 1 },
		{ CIM_SYNC_CLONE, "SourceGroup=prod\nTargetGroup=luns", 4096 },
		{ CIM_SYNC_CLONE, "SourceElement=a\nTargetElementCount=2", 4096 },
	};

	begin();
	for (size_t i = 0; i < ROWS(rows); i++) {
		CLEANUP_STRBUF struct strbuf text = STRBUF_INIT, without = STRBUF_INIT,
					     given = STRBUF_INIT;

		strbuf_addf(&text, "SyncType=%u\n%s\n[Run]\n", rows[i].sync_type,
			    rows[i].parameters);
		ROW_EQ(text.s, answer_to(text.s, &without), rows[i].code);
		strbuf_reset(&text);
		strbuf_addf(&text, "SyncType=%u\n%s\n", rows[i].sync_type,
			    rows[i].parameters);
		add_defaults(rows[i].sync_type, &text);
		strbuf_adds(&text, "[Run]\n");
		ROW_EQ(text.s, answer_to(text.s, &given), rows[i].code);
		ROW_STR_EQ(text.s, given.s, without.s);
	}
	whole_teardown();
}
END_TEST

/* ---- what fails ---------------------------------------------------------------------------- */

/* Which transaction of a call fails: that which draws the ids, or that which makes it. */
enum commit { IDS, MAKE };

static int commit_error; /* of one such, 0 = none */
static enum commit commit_fails;
static bool in_commit[2]; /* the open transaction is such a one */

int64_t __real_store_element_insert(struct store *s, const struct store_element *row);
int64_t __wrap_store_element_insert(struct store *s, const struct store_element *row);
int64_t __real_store_relationship_insert(struct store *s,
					 const struct store_relationship *row);
int64_t __wrap_store_relationship_insert(struct store *s,
					 const struct store_relationship *row);
int __real_store_commit(struct store *s);
int __wrap_store_commit(struct store *s);

int64_t __wrap_store_element_insert(struct store *s, const struct store_element *row)
{
	in_commit[IDS] = true;
	return __real_store_element_insert(s, row);
}

int64_t __wrap_store_relationship_insert(struct store *s,
					 const struct store_relationship *row)
{
	in_commit[MAKE] = true;
	return __real_store_relationship_insert(s, row);
}

int __wrap_store_commit(struct store *s)
{
	int error = in_commit[commit_fails] ? commit_error : 0;

	in_commit[IDS] = in_commit[MAKE] = false;
	if (!error)
		return __real_store_commit(s);
	commit_error = 0;
	store_rollback(s);
	return error;
}

#define REFUSED "[it]\nstate = refused\n"
#define PROD "SyncType=8 SourceGroup=prod\n"

/* With what is wrong: rules of the element f, or an error of the store. */
static const struct failure {
	const char *rules;
	int commit_error;
	enum commit commit;
	struct contract_row row;
} failures[] = {
	{ "", -EACCES, IDS, { PROD, CIM_RETURN_UNKNOWN, EIO, "Permission", NULL } },
	{ "", -EACCES, MAKE, { PROD, CIM_RETURN_UNKNOWN, EIO, "Permission", NULL } },
	{ "", -EIO, IDS, { PROD, CIM_RETURN_FAILED, EIO, "state store", NULL } },
	{ "", -EIO, MAKE, { PROD, CIM_RETURN_FAILED, EIO, "state store", NULL } },
	{ "", -ENOSPC, IDS, { PROD, CIM_RETURN_FAILED, ENOSPC, "No space", NULL } },
	{ "", -ENOSPC, MAKE, { PROD, CIM_RETURN_FAILED, ENOSPC, "No space", NULL } },
	{ "", -ENOMEM, IDS, { PROD, CIM_RETURN_FAILED, ENOMEM, "memory", NULL } },
	{ "", -EROFS, MAKE, { PROD, CIM_RETURN_FAILED, EROFS, "Read-only", NULL } },
	{ REFUSED,
	  0,
	  IDS,
	  { "SyncType=8 SourceElement=f\n", CIM_RETURN_FAILED, EIO,
	    "member f is not ready", NULL } },
	{ "[it]\nread_only = yes\n",
	  0,
	  IDS,
	  { "SyncType=8 SourceElement=a TargetGroup=faulty\n", CIM_RETURN_FAILED, EROFS,
	    "member \"f\" is read-only", NULL } },
};

static bool f_is(unsigned status)
{
	struct element_info info;

	engine_element_info(engine, whole_element("f"), &info);
	return info.operational_status == status;
}

static void check_failure(const struct failure *f)
{
	if (*f->rules) {
		whole_rules(REFUSED);
		whole_until(f_is(CIM_STATUS_ERROR));
	}
	whole_rules(f->rules);
	if (strcmp(f->rules, REFUSED) != 0)
		whole_until(f_is(CIM_STATUS_OK));
	dump_settle();
	commit_fails = f->commit;
	commit_error = f->commit_error;
	check_refused(&f->row, f->row.text, true);
	ck_assert_int_eq(commit_error, 0);
}

/* No write to f ends, so the fence over it does not close. */
static const struct contract_row timeout = { "SyncType=7 SourceElement=f\n",
					     CIM_RETURN_TIMEOUT, ETIMEDOUT,
					     "fence_timeout (500 ms)", NULL };

static void check_timeout(void)
{
	struct engine_handle *h = whole_open("f", true);
	struct whole_io w;

	whole_rules("[w]\nevent = write\nstall = yes\n");
	whole_write_begin(&w, h, 0, 7);
	check_refused(&timeout, timeout.text, true);
	whole_rules("");
	ck_assert_int_eq(whole_write_end(&w), 0);
	engine_data_close(h);
}

static const char *too_long(void)
{
	enum { LEN = 64 * 1024 + 1 };
	char *text = malloc(LEN + 1);

	ck_assert_ptr_nonnull(text);
	memset(text, ' ', LEN);
	memcpy(text, PROD, strlen(PROD) - 1);
	text[LEN - 1] = '\n';
	text[LEN] = '\0';
	return text;
}

START_TEST(what_fails_says_why_and_leaves_nothing)
{
	const char *text = too_long();
	const struct contract_row big = { text, CIM_RETURN_INVALID_PARAMETER, E2BIG,
					  "65536 is the limit", NULL };

	begin_with("fence_timeout = 0.5\n");
	whole_group("faulty", "f");
	check_timeout();
	for (size_t i = 0; i < ROWS(failures); i++)
		check_failure(&failures[i]);
	check_refused(&big, text, false);
	free((char *)text);
	whole_teardown();
}
END_TEST

/* ---- the codes ----------------------------------------------------------------------------- */

static bool has_code(uint32_t code)
{
	for (size_t t = 0; t < contract_n_tables; t++)
		for (size_t i = 0; i < contract_tables[t].n; i++)
			if (contract_tables[t].rows[i].code == code)
				return true;
	for (size_t i = 0; i < ROWS(failures); i++)
		if (failures[i].row.code == code)
			return true;
	return timeout.code == code;
}

START_TEST(each_return_code_has_its_row)
{
	unsigned n = 0;

	for (uint32_t code = 0; code <= CIM_RETURN_JOB_STARTED; code++)
		if (outcome_code_name(code)) {
			ck_assert_msg(has_code(code), "no row has the code %u", code);
			n++;
		}
	ck_assert_uint_eq(n, 8);
}
END_TEST

/* ---- main --------------------------------------------------------------------------------------- */

int main(void)
{
	const TTest *const tests[] = {
		each_row_is_answered_as_it_says,
		what_was_accepted_reads_back_after_a_restart,
		no_parameter_is_given_twice_or_without_a_value,
		a_property_stands_once_and_in_its_section,
		each_property_is_carried_out_or_refused_by_name,
		each_property_and_value_has_its_row,
		each_parameter_and_value_has_its_row,
		what_is_left_out_has_its_meaning,
		the_defaults_given_are_the_call_without_them,
		what_fails_says_why_and_leaves_nothing,
		each_return_code_has_its_row,
	};

	return unit_main("contract", tests, ROWS(tests));
}
