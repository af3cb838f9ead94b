/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The table of engine/transition.c, all of it: each operation of
 * ModifyReplicaSynchronization on Snapshots and Clones in each CopyState that there is,
 * also while they detach and in mixed groups, through the whole engine over files.
 */

#include "tests/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "engine/transition.h"
#include "fs/render.h"
#include "tests/whole.h"

#define IN(state) TRANSITION_IN(state)

enum {
	INITIALIZED = CIM_COPY_INITIALIZED,
	UNSYNCHRONIZED = CIM_COPY_UNSYNCHRONIZED,
	SYNCHRONIZED = CIM_COPY_SYNCHRONIZED,
	BROKEN = CIM_COPY_BROKEN,
	FRACTURED = CIM_COPY_FRACTURED,
	INACTIVE = CIM_COPY_INACTIVE,
	SUSPENDED = CIM_COPY_SUSPENDED,
	PREPARED = CIM_COPY_PREPARED,
	ABORTED = CIM_COPY_ABORTED,
	SKEWED = CIM_COPY_SKEWED,
	ENDED = CIM_COPY_NOT_APPLICABLE,
};

/* Holds up the copy of element f. */
static const char slow_rules[] = "[slow]\nevent = read\noffset = 2097152\n"
				 "length = 65536\nstall = yes\n";

/* ---- situations ------------------------------------------------------------------- */

enum { SNAPSHOT = CIM_SYNC_SNAPSHOT, CLONE = CIM_SYNC_CLONE };
enum {
	DETACHING = 1, /* Detach was written */
	APART = 2,     /* No Consistency */
	GOES_ON = 4, /* the same, and OnGroupOrListError Continue: the second is broken */
};

struct situation {
	unsigned sync_type;
	unsigned flags;
	/* Of one member, or of two: the second is held up, the first is not, and complete
	 * where the group copies.  Where the second is broken, the first is held up. */
	unsigned states[2];
	/* What is allowed, a letter each, whatever the table says: see letters. */
	const char *control;
	bool written; /* the image of the one that is held up */
};

static const struct {
	unsigned operation;
	char letter;
} letters[] = {
	{ CIM_OP_ACTIVATE, 'a' },
	{ CIM_OP_DEACTIVATE, 'd' },
	{ CIM_OP_DETACH, 't' },
	{ CIM_OP_DISSOLVE, 't' },
	{ CIM_OP_SUSPEND, 's' },
	{ CIM_OP_RESUME, 'r' },
	{ CIM_OP_ABORT, 'b' },
	{ CIM_OP_FRACTURE, 'f' },
	{ CIM_OP_RESYNC_REPLICA, 'y' },
	{ CIM_OP_RESTORE_FROM_REPLICA, 'o' },
	{ CIM_OP_RETURN_TO_RESOURCE_POOL, 'p' },
	{ CIM_OP_VERIFY, 'v' },
};

static const struct situation situations[] = {
	{ SNAPSHOT, 0, { INITIALIZED }, "ap" },
	{ SNAPSHOT, 0, { INACTIVE }, "ap" },
	{ SNAPSHOT, 0, { PREPARED }, "ap" },
	{ SNAPSHOT, 0, { SYNCHRONIZED }, "dtyopv" },
	{ SNAPSHOT, 0, { SKEWED }, "dtyopv" },
	{ SNAPSHOT, 0, { BROKEN }, "yp" },
	{ SNAPSHOT, 0, { ABORTED }, "yp" },
	{ SNAPSHOT, DETACHING, { SYNCHRONIZED }, "tsbp" },
	{ SNAPSHOT, DETACHING, { SKEWED }, "tsbp" },
	{ SNAPSHOT, DETACHING, { SUSPENDED }, "rbp" },
	{ SNAPSHOT, DETACHING, { SUSPENDED }, "rbp", true },
	{ SNAPSHOT, 0, { SKEWED, SYNCHRONIZED }, "dtyopv" },
	{ SNAPSHOT, DETACHING, { SYNCHRONIZED, SYNCHRONIZED }, "tsbp" },
	{ SNAPSHOT, DETACHING, { SYNCHRONIZED, SUSPENDED }, "rbp" },
	{ SNAPSHOT, DETACHING | APART, { SYNCHRONIZED, SUSPENDED }, "rbp" },
	{ SNAPSHOT, APART, { SYNCHRONIZED, ABORTED }, "yp" },
	{ CLONE, 0, { INITIALIZED }, "ap" },
	{ CLONE, 0, { INACTIVE }, "ap" },
	{ CLONE, 0, { PREPARED }, "ap" },
	{ CLONE, 0, { UNSYNCHRONIZED }, "dtsbyp" },
	{ CLONE, 0, { SUSPENDED }, "drbyp" },
	{ CLONE, 0, { SYNCHRONIZED }, "tfyopv" },
	{ CLONE, 0, { SKEWED }, "tfyopv" },
	{ CLONE, 0, { FRACTURED }, "tyopv" },
	{ CLONE, 0, { FRACTURED }, "tyopv", true },
	{ CLONE, 0, { SKEWED, SYNCHRONIZED }, "tfyopv" },
	{ CLONE, 0, { FRACTURED, FRACTURED }, "tyopv" },
	{ CLONE, 0, { BROKEN }, "yp" },
	{ CLONE, 0, { ABORTED }, "yp" },
	{ CLONE, DETACHING, { UNSYNCHRONIZED }, "tsbp" },
	{ CLONE, DETACHING, { SUSPENDED }, "rbp" },
	{ CLONE, 0, { SYNCHRONIZED, UNSYNCHRONIZED }, "tsbyp" },
	{ CLONE, 0, { SKEWED, UNSYNCHRONIZED }, "tsbyp" },
	{ CLONE, 0, { SYNCHRONIZED, SUSPENDED }, "rbyp" },
	{ CLONE, APART, { SYNCHRONIZED, SUSPENDED }, "rbyp" },
	{ CLONE, APART, { SYNCHRONIZED, ABORTED }, "yp" },
	{ CLONE, DETACHING, { SYNCHRONIZED, UNSYNCHRONIZED }, "tsbp" },
	{ CLONE, DETACHING, { SYNCHRONIZED, SUSPENDED }, "rbp" },
	{ SNAPSHOT, GOES_ON, { SYNCHRONIZED, BROKEN }, "yp" },
	{ SNAPSHOT, GOES_ON, { SKEWED, BROKEN }, "yp" },
	{ CLONE, GOES_ON, { UNSYNCHRONIZED, BROKEN }, "sbyp" },
	{ CLONE, GOES_ON, { SUSPENDED, BROKEN }, "rbyp" },
	{ CLONE, GOES_ON, { SYNCHRONIZED, BROKEN }, "yp" },
	{ CLONE, GOES_ON, { SKEWED, BROKEN }, "yp" },
	{ CLONE, GOES_ON, { ABORTED, BROKEN }, "yp" },
};

/* The states that a relationship is never in while it detaches. */
static const struct {
	unsigned sync_type, states;
	const char *why;
} never_detaching[] = {
	{ SNAPSHOT, IN(INITIALIZED) | IN(INACTIVE) | IN(PREPARED), "Detach is refused" },
	{ CLONE, IN(INITIALIZED) | IN(INACTIVE) | IN(PREPARED), "Detach is refused" },
	{ SNAPSHOT, IN(BROKEN) | IN(ABORTED), "a fault and Abort give the Detach up" },
	{ CLONE, IN(BROKEN) | IN(ABORTED), "a fault and Abort give the Detach up" },
	{ CLONE, IN(FRACTURED), "it is complete, and Detach ends it at once" },
	{ CLONE, IN(SKEWED), "of one member: it has ended; of a mix: as Synchronized" },
};

static unsigned n_pairs(const struct situation *s)
{
	return s->states[1] ? 2 : 1;
}

static bool is_idle(unsigned state)
{
	return state == INITIALIZED || state == INACTIVE || state == PREPARED;
}

/* The one that is held up, and its state. */
static unsigned held_up(const struct situation *s)
{
	return s->flags & GOES_ON ? 0 : n_pairs(s) - 1;
}

static unsigned held_state(const struct situation *s)
{
	return s->states[held_up(s)];
}

static bool is_complete(const struct situation *s, unsigned i)
{
	if (s->sync_type == CLONE)
		return TRANSITION_THERE & IN(s->states[i]);
	return n_pairs(s) == 2 && i == 0 &&
	       (s->flags & DETACHING || s->states[1] == ABORTED);
}

static bool has_point(const struct situation *s, unsigned i)
{
	if (is_complete(s, i) || is_idle(s->states[i]) || s->states[i] == BROKEN)
		return false;
	return s->sync_type == SNAPSHOT || s->states[i] != ABORTED;
}

static const char *name_of(const struct situation *s)
{
	static char name[128];
	char *end = name;

	end += sprintf(end, "%s %s", cim_name(&cim_sync_type, s->sync_type),
		       cim_name(&cim_copy_state, s->states[0]));
	if (s->states[1])
		end += sprintf(end, ", %s", cim_name(&cim_copy_state, s->states[1]));
	sprintf(end, "%s%s", s->flags & DETACHING ? ", detaching" : "",
		s->flags & APART   ? ", No Consistency" :
		s->flags & GOES_ON ? ", Continue" :
				     "");
	return name;
}

static bool is_ready(const char *element)
{
	struct element_info info;

	engine_element_info(engine, whole_element(element), &info);
	return info.operational_status == CIM_STATUS_OK;
}

static unsigned count_rows(const char *sql)
{
	sqlite3_stmt *stmt;
	sqlite3 *db;
	unsigned n;

	ck_assert_int_eq(sqlite3_open_v2(whole_path("state/lunfs.db"), &db,
					 SQLITE_OPEN_READONLY, NULL),
			 SQLITE_OK);
	ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
	n = (unsigned)sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return n;
}

static void set_rules(const char *file, const char *text)
{
	FILE *f = fopen(whole_path("rules.new"), "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(rename(whole_path("rules.new"), whole_path("%s", file)), 0);
}

/* With a group of a member that is there and one that is held up, and one of the latter
 * and one that breaks. */
static void start(void)
{
	whole_setup();
	whole_until(is_ready("f"));
	whole_add_faulty("h", WHOLE_LUN);
	whole_fill("h", 32, 1);
	whole_group("prod", "a f");
	whole_group("broken", "f h");
}

static bool states_are(uint64_t g, const unsigned *states, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (whole_pair(g, i + 1).copy_state != states[i])
			return false;
	return true;
}

static uint64_t write_spec_to_go_on(const struct situation *s)
{
	uint64_t g = whole_make(ENGINE_GROUP, "g");
	char spec[160];

	snprintf(spec, sizeof(spec),
		 "SourceGroup=broken\nSyncType=%u\nConsistency=2\n"
		 "[ReplicationSettingData]\nOnGroupOrListError=Continue",
		 s->sync_type);
	whole_spec(g, spec, s->sync_type == SNAPSHOT ? 0 : CIM_RETURN_JOB_STARTED);
	/* A Snapshot reads to keep what is overwritten. */
	if (s->sync_type == SNAPSHOT)
		whole_fill("h", 32, 2);
	whole_until(whole_pair(g, 2).copy_state == BROKEN);
	return g;
}

static uint64_t write_spec(const struct situation *s)
{
	unsigned state = s->states[0];
	char spec[160];
	int n = snprintf(spec, sizeof(spec), "%s SyncType=%u%s",
			 n_pairs(s) == 2 ? "SourceGroup=prod" : "SourceElement=f",
			 s->sync_type, s->flags & APART ? " Consistency=2" : "");

	if (is_idle(state))
		snprintf(spec + n, sizeof(spec) - (size_t)n, " WaitForCopyState=%u",
			 state);
	return whole_replica(
		"g", spec,
		s->sync_type == SNAPSHOT || is_idle(state) ? 0 : CIM_RETURN_JOB_STARTED);
}

static void break_it(uint64_t g)
{
	whole_rules("[it]\nstate = refused\n");
	whole_until(!is_ready("f"));
	whole_wait_state(g, BROKEN);
	whole_rules(slow_rules);
	whole_until(is_ready("f"));
}

/* What comes after the instant. */
static void lead_to(uint64_t g, const struct situation *s)
{
	unsigned last = held_state(s);
	const char *last_image = held_up(s) ? "g_2" : "g_1";

	if (s->states[0] == SKEWED)
		whole_fill("g_1", 9, 9);
	if (held_state(s) == FRACTURED)
		whole_control(g, "Fracture", 0);
	if (s->written)
		whole_fill(last_image, 9, 9);
	if (s->flags & DETACHING || (s->sync_type == SNAPSHOT && last == ABORTED))
		whole_control(g, "Detach", CIM_RETURN_JOB_STARTED);
	/* The first is complete: nothing of its point is needed any more. */
	if (held_up(s) && is_complete(s, 0) && !is_complete(s, 1))
		whole_until(count_rows("SELECT count(*) FROM pair WHERE point_id") == 1 &&
			    (s->sync_type == SNAPSHOT ||
			     whole_pair(g, 1).copy_state != UNSYNCHRONIZED));
	if (last == SUSPENDED)
		whole_control(g, "Suspend", 0);
	else if (last == ABORTED)
		whole_control(g, "Abort", 0);
	else if (last == BROKEN)
		break_it(g);
}

/* A new relationship "g", whose copy does not get on. */
static uint64_t make(const struct situation *s)
{
	bool copied = s->sync_type == CLONE && is_complete(s, held_up(s));
	uint64_t g;

	whole_rules(copied ? "" : slow_rules);
	set_rules("h.rules", "[bad]\nevent = read\noffset = 2097152\n"
			     "length = 65536\nerrno = ENODATA\n");
	g = s->flags & GOES_ON ? write_spec_to_go_on(s) : write_spec(s);
	for (unsigned i = 0; copied && i <= held_up(s); i++)
		whole_until(whole_pair(g, i + 1).copy_state == SYNCHRONIZED);
	whole_rules(slow_rules);
	lead_to(g, s);
	whole_until(states_are(g, s->states, n_pairs(s)));
	return g;
}

/* Of whatever is left of it. */
static void unmake(uint64_t g)
{
	whole_rules("");
	set_rules("h.rules", "");
	if (whole_info(g).has_relationship) {
		whole_control(g, "ReturnToResourcePool", 0);
	} else {
		whole_put(g, GROUP_MEMBERS, "\n", NULL);
		for (unsigned i = 1; i <= 2; i++) {
			uint64_t el = whole_element(i == 1 ? "g_1" : "g_2");

			if (el)
				ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, el), 0);
		}
	}
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), 0);
	whole_until(whole_files("e") == 0 && whole_files("p") == 0);
	ck_assert_uint_eq(whole_element("g_1"), 0);
}

/* ---- all that there is to see ---------------------------------------------------------- */

struct file {
	const char *name;
	bool fixed; /* does not change by itself */
};
#define IS_STATE true
#define IS_FIXED true
#define IS_LINK false
#define IS_NODE false
#define IS_COUNTER false
#define IS_PROGRESS false
#define FILE_(symbol, name, kind, mode) [symbol] = { name, IS_##kind },
static const struct file group_files[] = { GROUP_FILES(FILE_) };
static const struct file pair_files[] = { PAIR_FILES(FILE_) };
static const struct file job_files[] = { JOB_FILES(FILE_) };
static const struct file element_files[] = { ELEMENT_FILES(FILE_) };

static void see_group(uint64_t g, struct strbuf *b)
{
	struct group_info info = whole_info(g);

	for (unsigned f = 0; f < ROWS(group_files); f++)
		if (group_files[f].fixed && f != GROUP_RESULT) {
			strbuf_addf(b, "%s:\n", group_files[f].name);
			render_group(b, &info, f);
			engine_list_text(engine, ENGINE_GROUP, g, f, b);
		}
}

static void see_pair(const struct pair_info *info, struct strbuf *b)
{
	for (unsigned f = 0; f < ROWS(pair_files); f++)
		if (pair_files[f].fixed && f != PAIR_VERIFIED) {
			strbuf_addf(b, "%u/%s:\n", info->n, pair_files[f].name);
			render_pair(b, info, f);
			engine_list_text(engine, ENGINE_PAIR, info->id, f, b);
		}
}

static void see_job(uint64_t id, struct strbuf *b)
{
	struct job_info info;

	if (!id)
		return;
	ck_assert_int_eq(engine_job_info(engine, id, &info), 0);
	for (unsigned f = 0; f < ROWS(job_files); f++)
		if (job_files[f].fixed) {
			strbuf_addf(b, "job/%s:\n", job_files[f].name);
			render_job(b, &info, f);
		}
}

static void see_element(const char *name, struct strbuf *b)
{
	uint64_t id = whole_element(name);
	struct element_info info;

	if (engine_element_info(engine, id, &info) < 0)
		return;
	for (unsigned f = 0; f < ROWS(element_files); f++)
		if (element_files[f].fixed) {
			strbuf_addf(b, "%s/%s:\n", name, element_files[f].name);
			render_element(b, &info, f);
			engine_list_text(engine, ENGINE_ELEMENT, id, f, b);
		}
}

/* All but the time of the last write to an element, which is noted later. */
static int add_row(void *opaque, int n, char **values, char **names)
{
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], "modified"))
			strbuf_addf(opaque, "%s=%s ", names[i],
				    values[i] ? values[i] : "NULL");
	strbuf_adds(opaque, "\n");
	return 0;
}

static void see_store(struct strbuf *b)
{
	static const char *const tables[] = {
		"meta", "pool",	 "element", "\"group\"", "member",
		"job",	"point", "pair",    "hold",	 "relationship",
	};
	char sql[64];
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open_v2(whole_path("state/lunfs.db"), &db,
					 SQLITE_OPEN_READONLY, NULL),
			 SQLITE_OK);
	for (size_t i = 0; i < ROWS(tables); i++) {
		strbuf_addf(b, "%s:\n", tables[i]);
		snprintf(sql, sizeof(sql), "SELECT * FROM %s", tables[i]);
		ck_assert_int_eq(sqlite3_exec(db, sql, add_row, b, NULL), SQLITE_OK);
	}
	sqlite3_close(db);
}

static void see(uint64_t g, unsigned n, struct strbuf *b)
{
	strbuf_reset(b);
	see_group(g, b);
	for (unsigned i = 1; i <= n; i++) {
		struct pair_info info = whole_pair(g, i);

		see_pair(&info, b);
	}
	see_job(whole_info(g).job, b);
	see_element("f", b);
	see_element("g_1", b);
	see_element("g_2", b);
	see_store(b);
}

static void check_same(const char *what, const struct strbuf *before,
		       const struct strbuf *after)
{
	size_t at = 0, begin;

	while (before->s[at] && before->s[at] == after->s[at])
		at++;
	begin = at < 100 ? 0 : at - 100;
	ck_assert_msg(before->len == after->len && at == before->len,
		      "%s: a refusal changed something: %.200s, not %.200s", what,
		      after->s + begin, before->s + begin);
}

/* ---- what is refused --------------------------------------------------------------------- */

/* "Detach\nDissolve\n" has "Detach". */
static bool lists(const char *text, unsigned operation)
{
	const char *name = cim_name(&cim_operation, operation);
	size_t len = strlen(name);

	for (; *text; text += strcspn(text, "\n") + 1)
		if (strcspn(text, "\n") == len && !strncmp(text, name, len))
			return true;
	return false;
}

static enum transition_refusal want(const struct situation *s, unsigned operation)
{
	unsigned states = IN(s->states[0]) | IN(s->states[n_pairs(s) - 1]);

	return transition_check(operation, s->sync_type, states, s->flags & DETACHING);
}

/* By name, by number, and as somebody types it. */
static const char *spell(unsigned operation, unsigned way)
{
	static char text[64];

	snprintf(text, sizeof(text), "%s", cim_name(&cim_operation, operation));
	if (way % 3 == 1)
		snprintf(text, sizeof(text), "%u", operation);
	for (char *c = text; *c && way % 3 == 2; c++)
		*c = *c == ' ' ? '_' : (char)(*c | 0x20);
	strcat(text, "\n");
	return text;
}

static void check_refusal(uint64_t g, const struct situation *s, unsigned operation,
			  unsigned way)
{
	static const int errors[] = { 0, EOPNOTSUPP, EIO, ETIMEDOUT, EIO, EINVAL, EBUSY };
	const char *name = cim_name(&cim_operation, operation);
	unsigned code = transition_code(want(s, operation));
	unsigned from = transition_from(operation, s->sync_type);
	struct engine_command cmd;
	char row[224];

	snprintf(row, sizeof(row), "%s: %s", name_of(s), name);
	whole_put(g, GROUP_CONTROL, spell(operation, way), &cmd);
	ROW_EQ(row, cmd.outcome.code, code);
	ROW_EQ(row, cmd.outcome.error, errors[code]);
	ROW_HAS(row, cmd.outcome.sentence, name);
	for (unsigned state = INITIALIZED; state <= CIM_COPY_RESTORED; state++)
		if (from & IN(state))
			ROW_HAS(row, cmd.outcome.sentence,
				cim_name(&cim_copy_state, state));
	if (!from)
		ROW_HAS(row, cmd.outcome.sentence,
			transition_why_not(operation, s->sync_type));
	ROW_EQ(row, code == CIM_RETURN_NOT_SUPPORTED, !from);
}

/* The list has what its situation says, and nothing else. */
static void check_letters(const struct situation *s, const char *control)
{
	for (size_t i = 0; i < cim_operation.n_values; i++) {
		unsigned operation = cim_operation.values[i].number;
		bool is_wanted = false;

		for (size_t k = 0; k < ROWS(letters); k++)
			if (letters[k].operation == operation)
				is_wanted = strchr(s->control, letters[k].letter);
		ck_assert_msg(lists(control, operation) == is_wanted,
			      "%s: control has %s%s", name_of(s), is_wanted ? "no " : "",
			      cim_operation.values[i].name);
	}
}

START_TEST(what_is_not_listed_is_refused_and_changes_nothing)
{
	CLEANUP_STRBUF struct strbuf before = STRBUF_INIT;
	CLEANUP_STRBUF struct strbuf after = STRBUF_INIT;

	start();
	for (size_t i = 0; i < ROWS(situations); i++) {
		const struct situation *s = &situations[i];
		uint64_t g = make(s);
		unsigned points = has_point(s, 0) + (n_pairs(s) == 2 && has_point(s, 1));
		const char *control = whole_list(ENGINE_GROUP, g, GROUP_CONTROL);

		whole_until(count_rows("SELECT count(*) FROM point") == points);
		check_letters(s, control);
		see(g, n_pairs(s), &before);
		for (size_t o = 0; o < cim_operation.n_values; o++) {
			unsigned operation = cim_operation.values[o].number;

			ROW_EQ(name_of(s), lists(control, operation),
			       want(s, operation) == TRANSITION_ALLOWED);
			if (!lists(control, operation))
				check_refusal(g, s, operation, (unsigned)(i + o));
		}
		see(g, n_pairs(s), &after);
		check_same(name_of(s), &before, &after);
		unmake(g);
	}
	whole_teardown();
}
END_TEST

/* ---- what is carried out ------------------------------------------------------------------ */

/* The code of the answer: that of a member whose work goes on. */
static unsigned answer_of(const struct situation *s, unsigned operation)
{
	for (unsigned i = 0; i < n_pairs(s); i++)
		if (transition_find(operation, s->sync_type, s->states[i])->answer)
			return CIM_RETURN_JOB_STARTED;
	return 0;
}

static bool ends_at_once(const struct situation *s, unsigned operation)
{
	for (unsigned i = 0; i < n_pairs(s); i++)
		if (transition_find(operation, s->sync_type, s->states[i])->to !=
		    TRANSITION_ENDS)
			return false;
	return true;
}

/* Where a member goes. */
static unsigned next_of(const struct situation *s, unsigned operation, unsigned i)
{
	const struct transition *t =
		transition_find(operation, s->sync_type, s->states[i]);
	bool was_written = s->states[i] == SKEWED || (s->written && i == held_up(s));
	unsigned to = t->to;

	if (to == TRANSITION_ENDS && !ends_at_once(s, operation))
		return s->states[i]; /* when the others do */
	if (to & TRANSITION_STAYS && to != TRANSITION_STAYS) {
		/* Complete: with Abort one fate, if it is not No Consistency. */
		bool stays = is_complete(s, i) &&
			     (operation != CIM_OP_ABORT || s->flags & (APART | GOES_ON));

		to = stays ? TRANSITION_STAYS : to & ~TRANSITION_STAYS;
	}
	if (to == (IN(SYNCHRONIZED) | IN(SKEWED)))
		to = IN(was_written ? SKEWED : SYNCHRONIZED);
	if (to == TRANSITION_STAYS)
		return s->states[i];
	for (unsigned state = INITIALIZED; state <= CIM_COPY_RESTORED; state++)
		if (to == IN(state))
			return state;
	ck_abort_msg("%s: no state", name_of(s));
	return 0;
}

/* What comes of it by itself: a state, or 0. */
static unsigned end_of(const struct situation *s, unsigned operation)
{
	unsigned end = 0;

	for (unsigned i = 0; i < n_pairs(s); i++)
		end |= transition_find(operation, s->sync_type, s->states[i])->end;
	if (end & TRANSITION_ENDS || (end && s->flags & DETACHING))
		return ENDED;
	return end ? SYNCHRONIZED : 0;
}

static bool is_next(uint64_t g, const struct situation *s, unsigned operation, unsigned i)
{
	const struct transition *t =
		transition_find(operation, s->sync_type, s->states[i]);
	unsigned state = whole_pair(g, i + 1).copy_state;

	/* What is not held up may be complete by now. */
	if (i != held_up(s) && !(s->flags & GOES_ON) && t->end & IN(state))
		return true;
	return state == next_of(s, operation, i);
}

static bool are_next(uint64_t g, const struct situation *s, unsigned operation)
{
	for (unsigned i = 0; i < n_pairs(s); i++)
		if (!is_next(g, s, operation, i))
			return false;
	return true;
}

static void check_next(uint64_t g, const struct situation *s, unsigned operation)
{
	if (ends_at_once(s, operation)) {
		ROW_EQ(name_of(s), whole_info(g).has_relationship, false);
		return;
	}
	if (answer_of(s, operation))
		whole_until(are_next(g, s, operation));
	ck_assert_msg(are_next(g, s, operation), "%s: %s: now %s", name_of(s),
		      cim_name(&cim_operation, operation),
		      cim_name(&cim_copy_state, whole_state(g)));
}

static bool takes_instant(unsigned operation)
{
	return operation == CIM_OP_ACTIVATE || operation == CIM_OP_RESYNC_REPLICA;
}

static bool is_over(uint64_t g)
{
	struct job_info job;

	return engine_job_info(engine, whole_info(g).job, &job) < 0 ||
	       job.state == CIM_JOB_COMPLETED;
}

/* The device answers again: what was begun comes to its end. */
static void check_end(uint64_t g, const struct situation *s, unsigned operation,
		      uint64_t job)
{
	unsigned end = end_of(s, operation);
	struct job_info info;

	whole_rules("");
	set_rules("h.rules", "");
	/* What is broken stays so, unless it is copied anew. */
	if (end && s->flags & GOES_ON && !takes_instant(operation))
		whole_until(whole_pair(g, 1).copy_state == end);
	else if (end)
		whole_wait_state(g, end);
	if (!answer_of(s, operation))
		return;
	whole_until(is_over(g));
	ck_assert_int_eq(engine_job_info(engine, job, &info), 0);
	ROW_EQ(name_of(s), info.state, CIM_JOB_COMPLETED);
	ROW_EQ(name_of(s), info.error_code, 0);
	if (!end)
		check_next(g, s, operation);
}

static void carry_out(const struct situation *s, unsigned operation, unsigned way)
{
	uint64_t g = make(s);
	int64_t since = whole_info(g).when_activated;
	struct engine_command cmd;
	uint64_t job;

	/* What is broken is held up from now on. */
	set_rules("h.rules", slow_rules);
	whole_put(g, GROUP_CONTROL, spell(operation, way), &cmd);
	ck_assert_msg(cmd.outcome.code == answer_of(s, operation), "%s: %s: %u: %s",
		      name_of(s), cim_name(&cim_operation, operation), cmd.outcome.code,
		      cmd.outcome.sentence);
	job = whole_info(g).job;
	if (takes_instant(operation))
		whole_until(whole_info(g).when_activated != since);
	check_next(g, s, operation);
	check_end(g, s, operation, job);
	unmake(g);
}

START_TEST(what_is_listed_is_carried_out_and_leads_where_the_table_says)
{
	unsigned n = 0;

	start();
	for (size_t i = 0; i < ROWS(situations); i++)
		for (size_t o = 0; o < cim_operation.n_values; o++) {
			unsigned operation = cim_operation.values[o].number;

			if (want(&situations[i], operation) != TRANSITION_ALLOWED)
				continue;
			carry_out(&situations[i], operation, (unsigned)(i + o));
			n++;
		}
	ck_assert_uint_gt(n, 90);
	whole_teardown();
}
END_TEST

/* ---- what is under way ------------------------------------------------------------------ */

static const char writes_stall[] = "[slow]\nevent = write\nstall = yes\n";

/* All that the SyncType has is In Use, but what `except` lists, and changes nothing. */
static void check_busy(const char *name, uint64_t g, const char *except, const char *part)
{
	CLEANUP_STRBUF struct strbuf before = STRBUF_INIT;
	CLEANUP_STRBUF struct strbuf after = STRBUF_INIT;

	ck_assert_str_eq(whole_list(ENGINE_GROUP, g, GROUP_CONTROL), except);
	see(g, 1, &before);
	for (size_t i = 0; i < cim_operation.n_values; i++) {
		unsigned operation = cim_operation.values[i].number;
		bool has = transition_from(operation, SNAPSHOT);
		const char *text = spell(operation, (unsigned)i);
		struct engine_command cmd;

		if (lists(except, operation))
			continue;
		whole_put(g, GROUP_CONTROL, text, &cmd);
		/* Others than Verify are as they would be without one. */
		if (*except && operation != CIM_OP_VERIFY)
			continue;
		ROW_EQ(text, cmd.outcome.code,
		       has ? CIM_RETURN_IN_USE : CIM_RETURN_NOT_SUPPORTED);
		if (cmd.outcome.code == CIM_RETURN_IN_USE)
			ROW_HAS(text, cmd.outcome.sentence, part);
	}
	see(g, 1, &after);
	check_same(name, &before, &after);
}

START_TEST(while_an_instant_is_taken_all_is_in_use)
{
	struct engine_handle *h;
	struct whole_io w;
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Snapshot", 0);
	/* Its first write to a chunk, so that no more is kept. */
	whole_fill("f", 1, 1);
	whole_rules(writes_stall);
	h = whole_open("f", true);
	whole_write_begin(&w, h, 1, 2);
	whole_control(g, "ResyncReplica", CIM_RETURN_JOB_STARTED);
	whole_until(count_rows("SELECT count(*) FROM point") == 2);
	check_busy("instant", g, "", "is about to take an instant");
	whole_rules("");
	ck_assert_int_eq(whole_write_end(&w), 0);
	engine_data_close(h);
	whole_until(whole_job(g).state != CIM_JOB_RUNNING);
	unmake(g);
	whole_teardown();
}
END_TEST

START_TEST(while_the_source_is_restored_all_is_in_use)
{
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Snapshot", 0);
	whole_fill("f", 1, 1);
	whole_rules(writes_stall);
	whole_control(g, "RestoreFromReplica", CIM_RETURN_JOB_STARTED);
	whole_until(whole_info(g).progress_status == CIM_PROGRESS_RESTORING);
	check_busy("restore", g, "", "is being restored");
	whole_rules("");
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	unmake(g);
	whole_teardown();
}
END_TEST

START_TEST(while_it_is_verified_only_verify_is_in_use)
{
	uint64_t g;

	whole_setup();
	whole_until(is_ready("f"));
	g = whole_replica("g", "SourceElement=f SyncType=Snapshot", 0);
	/* A chunk that it has from elsewhere is compared. */
	whole_fill("g_1", 32, 1);
	whole_rules(slow_rules);
	whole_control(g, "Verify", CIM_RETURN_JOB_STARTED);
	check_busy("Verify", g,
		   "Deactivate\nDetach\nDissolve\nResync Replica\n"
		   "Restore from Replica\nReturn To ResourcePool\n",
		   "compares already");
	whole_rules("");
	whole_until(whole_job(g).state == CIM_JOB_COMPLETED);
	unmake(g);
	whole_teardown();
}
END_TEST

/* ---- the table itself ------------------------------------------------------------------ */

/* The states of all situations with, or without, DETACHING. */
static unsigned walked(unsigned sync_type, unsigned detaching)
{
	unsigned states = 0;

	for (size_t i = 0; i < ROWS(situations); i++) {
		const struct situation *s = &situations[i];

		if (s->sync_type == sync_type && (s->flags & DETACHING) == detaching)
			states |= IN(s->states[0]) | IN(s->states[n_pairs(s) - 1]);
	}
	return states;
}

START_TEST(every_state_is_walked_or_there_is_a_reason)
{
	for (unsigned sync_type = SNAPSHOT; sync_type <= CLONE; sync_type++) {
		unsigned never = 0;

		ck_assert_uint_eq(walked(sync_type, 0) | walked(sync_type, DETACHING),
				  transition_states(sync_type));
		for (size_t i = 0; i < cim_copy_state.n_values; i++) {
			unsigned state = cim_copy_state.values[i].number;
			bool is_walked = transition_states(sync_type) & IN(state);
			const char *why = transition_why_never(sync_type, state);

			ROW_EQ(cim_copy_state.values[i].name, !why, is_walked);
		}
		for (size_t i = 0; i < ROWS(never_detaching); i++)
			if (never_detaching[i].sync_type == sync_type)
				never |= never_detaching[i].states;
		ck_assert_uint_eq(walked(sync_type, DETACHING) & never, 0);
		ck_assert_uint_eq(walked(sync_type, DETACHING) | never,
				  transition_states(sync_type));
	}
}
END_TEST

START_TEST(every_operation_has_a_row_or_a_reason)
{
	for (size_t i = 0; i < cim_operation.n_values; i++) {
		unsigned operation = cim_operation.values[i].number;

		for (unsigned sync_type = SNAPSHOT; sync_type <= CLONE; sync_type++)
			ROW_EQ(cim_operation.values[i].name,
			       !!transition_why_not(operation, sync_type),
			       !transition_from(operation, sync_type));
	}
	/* As in reference and MOF: 2 to 27, and LunFS's own. */
	ck_assert_uint_eq(cim_operation.n_values, 27);
}
END_TEST

/* A pair is in one row at most for an operation; an answer without a job leads there. */
START_TEST(the_rows_are_unambiguous)
{
	const struct transition *a, *b;

	for (size_t i = 0; (a = transition_row(i)); i++) {
		ck_assert(a->from && a->to);
		ck_assert(a->operation ? !a->by : !!a->by);
		for (size_t k = 0; a->operation && k < i; k++) {
			b = transition_row(k);
			if (a->operation != b->operation || a->sync_type != b->sync_type)
				continue;
			ck_assert_uint_eq(a->from & b->from, 0);
			ck_assert_uint_eq(a->detaching, b->detaching);
		}
	}
}
END_TEST

/* What the texts of CIM say of states, whatever the table says. */
START_TEST(the_table_says_what_cim_says)
{
	static const struct {
		unsigned operation, from, to;
	} rules[] = {
		{ CIM_OP_ABORT, UNSYNCHRONIZED, ABORTED },
		{ CIM_OP_ACTIVATE, INACTIVE, UNSYNCHRONIZED },
		{ CIM_OP_ACTIVATE, PREPARED, UNSYNCHRONIZED },
		{ CIM_OP_DEACTIVATE, UNSYNCHRONIZED, INACTIVE },
		{ CIM_OP_FRACTURE, SYNCHRONIZED, FRACTURED },
		{ CIM_OP_FRACTURE, SKEWED, FRACTURED },
		{ CIM_OP_RESYNC_REPLICA, FRACTURED, UNSYNCHRONIZED },
		{ CIM_OP_RESYNC_REPLICA, SYNCHRONIZED, UNSYNCHRONIZED },
		{ CIM_OP_RESYNC_REPLICA, BROKEN, UNSYNCHRONIZED },
		{ CIM_OP_RESYNC_REPLICA, ABORTED, UNSYNCHRONIZED },
		{ CIM_OP_RESUME, SUSPENDED, UNSYNCHRONIZED },
		{ CIM_OP_SUSPEND, UNSYNCHRONIZED, SUSPENDED },
		{ CIM_OP_DETACH, SYNCHRONIZED, ENDED },
		{ CIM_OP_DISSOLVE, SYNCHRONIZED, ENDED },
		{ CIM_OP_RETURN_TO_RESOURCE_POOL, SYNCHRONIZED, ENDED },
	};

	for (size_t i = 0; i < ROWS(rules); i++) {
		const struct transition *t =
			transition_find(rules[i].operation, CLONE, rules[i].from);

		ck_assert_ptr_nonnull(t);
		ROW_EQ(cim_name(&cim_operation, rules[i].operation), t->to,
		       IN(rules[i].to));
	}
	ck_assert_ptr_nonnull(
		transition_find(CIM_OP_RESTORE_FROM_REPLICA, SNAPSHOT, SYNCHRONIZED));
}
END_TEST

/* ---- names ------------------------------------------------------------------------------- */

START_TEST(every_operation_is_known_by_name_and_number)
{
	static const char *const unknown[] = { "0\n",	    "1\n",     "28\n",
					       "32767\n",   "32769\n", "65536\n",
					       "Quiesce\n", "\n",      "Detach Now\n" };
	struct engine_command cmd;
	uint64_t g;

	whole_setup();
	g = whole_group("g", "a");
	for (size_t i = 0; i < cim_operation.n_values; i++)
		for (unsigned way = 0; way < 3; way++) {
			const char *text = spell(cim_operation.values[i].number, way);

			whole_put(g, GROUP_CONTROL, text, &cmd);
			ROW_EQ(text, cmd.outcome.code, CIM_RETURN_FAILED);
			ROW_HAS(text, cmd.outcome.sentence, "has no relationship");
		}
	for (size_t i = 0; i < ROWS(unknown); i++) {
		whole_put(g, GROUP_CONTROL, unknown[i], &cmd);
		ROW_EQ(unknown[i], cmd.outcome.code, CIM_RETURN_INVALID_PARAMETER);
		ROW_EQ(unknown[i], cmd.outcome.error, EINVAL);
	}
	whole_teardown();
}
END_TEST

/* "SyncType operation from code to then" for tests/test-man-control.sh: the table as
 * numbers, sets of CopyStates in hexadecimal. */
static int print_rows(void)
{
	const struct transition *t;

	for (size_t i = 0; (t = transition_row(i)); i++)
		if (t->operation)
			printf("%s %u %x%s %u %x %x\n",
			       cim_name(&cim_sync_type, t->sync_type), t->operation,
			       t->from,
			       t->detaching == TRANSITION_ONLY_THEN ? "only" :
			       t->detaching			    ? "also" :
								      "",
			       t->answer, t->to, t->end);
	return 0;
}

int main(int argc, char **argv)
{
	const TTest *const tests[] = {
		what_is_not_listed_is_refused_and_changes_nothing,
		what_is_listed_is_carried_out_and_leads_where_the_table_says,
		while_an_instant_is_taken_all_is_in_use,
		while_the_source_is_restored_all_is_in_use,
		while_it_is_verified_only_verify_is_in_use,
		every_state_is_walked_or_there_is_a_reason,
		every_operation_has_a_row_or_a_reason,
		the_rows_are_unambiguous,
		the_table_says_what_cim_says,
		every_operation_is_known_by_name_and_number,
	};

	if (argc > 1 && !strcmp(argv[1], "--rows"))
		return print_rows();
	return unit_main("transition", tests, ROWS(tests));
}
