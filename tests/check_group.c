/* SPDX-License-Identifier: BSD-2-Clause */

/* Groups (CIM_ReplicationGroup): when they go by themselves, what is refused, and the
 * rules of their lists; through the whole engine over files, a row for each rule. */

#include "tests/unit.h"

#include <errno.h>
#include <stdbool.h>

#include "conf/cim.h"
#include "engine/store.h"
#include "tests/whole.h"

/* ---- in which transaction a group's row goes ------------------------------------ */

static bool in_change;	 /* a list or a relationship changed in this transaction */
static unsigned n_alone; /* group rows that went without */

int __real_store_relationship_delete(struct store *s, uint64_t id);
int __wrap_store_relationship_delete(struct store *s, uint64_t id);
int __real_store_members_set(struct store *s, uint64_t group_id, const uint64_t *ids,
			     size_t n);
int __wrap_store_members_set(struct store *s, uint64_t group_id, const uint64_t *ids,
			     size_t n);
int __real_store_group_delete(struct store *s, uint64_t id);
int __wrap_store_group_delete(struct store *s, uint64_t id);
int __real_store_commit(struct store *s);
int __wrap_store_commit(struct store *s);

int __wrap_store_relationship_delete(struct store *s, uint64_t id)
{
	in_change = true;
	return __real_store_relationship_delete(s, id);
}

int __wrap_store_members_set(struct store *s, uint64_t group_id, const uint64_t *ids,
			     size_t n)
{
	in_change = true;
	return __real_store_members_set(s, group_id, ids, n);
}

int __wrap_store_group_delete(struct store *s, uint64_t id)
{
	n_alone += !in_change;
	return __real_store_group_delete(s, id);
}

int __wrap_store_commit(struct store *s)
{
	in_change = false;
	return __real_store_commit(s);
}

/* ---- lifetimes ------------------------------------------------------------------- */

/*
 * S is a group "a f", R and T are empty ones.  The steps:
 *
 *   G.Property=value
 *   clone snapshot    R of S; wait for it
 *   third             T of S, a Snapshot
 *   refused           a spec of R that is not supported
 *   meanwhile         while a spec of T waits for the login of f, R is returned to
 *                     the pool; then that spec is interrupted
 *   G.detach          and wait for the end
 *   G.begin-detach    of a Snapshot, without waiting
 *   G.wait            for the end of that
 *   G.return          to the pool
 *   G.members=list    _ for a blank
 *   restart
 */
static const struct {
	const char *name, *steps, *left; /* the groups there are then */
	bool image;			 /* R_1 is there */
} lives[] = {
	{ "by default a group stays: Detach", "clone R.detach", "RST", true },
	{ "by default a group stays: ReturnToResourcePool", "clone R.return", "RST",
	  false },
	{ "by default a group stays: an empty list", "S.members=", "RST", false },

	{ "DeleteOnEmptyElement: an empty list",
	  "S.DeleteOnEmptyElement=true S.members=", "RT", false },
	{ "DeleteOnEmptyElement: the last is taken out",
	  "S.DeleteOnEmptyElement=true S.members=-a S.members=-f", "RT", false },
	{ "DeleteOnEmptyElement: one of two is taken out",
	  "S.DeleteOnEmptyElement=true S.members=-a", "RST", false },
	{ "DeleteOnEmptyElement: another list", "S.DeleteOnEmptyElement=true S.members=b",
	  "RST", false },
	{ "DeleteOnEmptyElement: no last member has gone", "R.DeleteOnEmptyElement=true",
	  "RST", false },
	{ "DeleteOnEmptyElement: an empty list again",
	  "R.DeleteOnEmptyElement=true R.members=", "RST", false },
	{ "DeleteOnEmptyElement: the images go",
	  "R.DeleteOnEmptyElement=true clone R.return", "ST", false },
	{ "DeleteOnEmptyElement: the images stay",
	  "R.DeleteOnEmptyElement=true clone R.detach", "RST", true },
	{ "DeleteOnEmptyElement: the images are taken out later",
	  "R.DeleteOnEmptyElement=true clone R.detach R.members=", "ST", true },
	{ "DeleteOnEmptyElement of a source is no matter of its relationships",
	  "S.DeleteOnEmptyElement=true clone R.return", "RST", false },
	{ "DeleteOnEmptyElement, taken back",
	  "S.DeleteOnEmptyElement=true S.DeleteOnEmptyElement=false S.members=", "RST",
	  false },

	{ "DeleteOnUnassociated: Detach", "R.DeleteOnUnassociated=true clone R.detach",
	  "ST", true },
	{ "DeleteOnUnassociated: ReturnToResourcePool",
	  "R.DeleteOnUnassociated=true clone R.return", "ST", false },
	{ "DeleteOnUnassociated: never associated",
	  "S.DeleteOnUnassociated=true R.DeleteOnUnassociated=true", "RST", false },
	{ "DeleteOnUnassociated: an empty list",
	  "S.DeleteOnUnassociated=true S.members=", "RST", false },
	{ "DeleteOnUnassociated: a spec that fails",
	  "S.DeleteOnUnassociated=true R.DeleteOnUnassociated=true refused", "RST",
	  false },
	{ "DeleteOnUnassociated: the source",
	  "S.DeleteOnUnassociated=true clone R.detach", "RT", true },
	{ "DeleteOnUnassociated: a source of two, one ends",
	  "S.DeleteOnUnassociated=true clone third R.return", "RST", false },
	{ "DeleteOnUnassociated: a source of two, both end",
	  "S.DeleteOnUnassociated=true clone third R.return T.return", "RT", false },
	{ "DeleteOnUnassociated, set while associated",
	  "clone S.DeleteOnUnassociated=true R.DeleteOnUnassociated=true R.return", "T",
	  false },
	{ "DeleteOnUnassociated, taken back while associated",
	  "R.DeleteOnUnassociated=true clone R.DeleteOnUnassociated=false R.return",
	  "RST", false },
	{ "DeleteOnUnassociated, set after the end",
	  "clone R.return R.DeleteOnUnassociated=true S.DeleteOnUnassociated=true", "RST",
	  false },
	{ "DeleteOnUnassociated: a Snapshot that detaches in a job",
	  "R.DeleteOnUnassociated=true snapshot R.detach", "ST", true },
	{ "DeleteOnUnassociated: the same, over a restart",
	  "R.DeleteOnUnassociated=true S.Persistent=false snapshot R.begin-detach restart "
	  "R.wait",
	  "T", true },
	{ "DeleteOnUnassociated: a spec under way keeps it, and fails",
	  "S.DeleteOnUnassociated=true clone meanwhile", "RT", false },
	{ "by default a spec that fails takes nothing away", "clone meanwhile", "RST",
	  false },

	{ "Persistent=false: never copied, not even a restart takes it",
	  "S.Persistent=false R.Persistent=false restart", "RST", false },
	{ "Persistent=false: it has no members", "S.Persistent=false S.members=", "RST",
	  false },
	{ "Persistent=false: while the copy is there",
	  "S.Persistent=false R.Persistent=false clone restart", "RST", true },
	{ "Persistent=false: the copy ends, Detach",
	  "S.Persistent=false R.Persistent=false clone R.detach", "T", true },
	{ "Persistent=false: the copy ends, ReturnToResourcePool",
	  "S.Persistent=false R.Persistent=false clone restart R.return", "T", false },
	{ "Persistent=false: a copy is left",
	  "S.Persistent=false clone third R.return restart", "RST", false },
	{ "Persistent=false, taken back",
	  "R.Persistent=false clone R.Persistent=true R.return", "RST", false },
	{ "all at once",
	  "R.Persistent=false R.DeleteOnEmptyElement=true R.DeleteOnUnassociated=true clone "
	  "restart R.return",
	  "ST", false },
};

static uint64_t group(const char *name)
{
	return engine_find(engine, ENGINE_GROUP, 0, name);
}

static unsigned property_of(const char *name)
{
	return !strcmp(name, "members")	    ? GROUP_MEMBERS :
	       !strcmp(name, "Persistent")  ? GROUP_PERSISTENT :
	       strstr(name, "Unassociated") ? GROUP_DELETE_ON_UNASSOCIATED :
					      GROUP_DELETE_ON_EMPTY;
}

/* The engine answers before it takes a group away. */
static void settle(void)
{
	struct engine_command cmd;

	whole_run((struct engine_command){ .verb = ENGINE_REMOVE,
					   .class = ENGINE_GROUP,
					   .id = 1000 },
		  &cmd);
	ck_assert_int_eq(cmd.outcome.error, ENOENT);
}

static void put_line(const char *name, unsigned file, const char *text, unsigned code)
{
	struct engine_command cmd;
	char line[96];

	snprintf(line, sizeof(line), "%s\n", text);
	for (char *c = line; *c; c++)
		if (*c == '_' && file == GROUP_MEMBERS)
			*c = ' ';
	whole_put(group(name), file, line, &cmd);
	ck_assert_msg(cmd.outcome.code == code, "%s: %s: code %u: %s", name, text,
		      cmd.outcome.code, cmd.outcome.sentence);
}

static bool f_is(unsigned status)
{
	struct element_info info;

	engine_element_info(engine, whole_element("f"), &info);
	return info.operational_status == status;
}

static void meanwhile(void)
{
	struct whole_call call = { 0 };
	static const char spec[] = "SourceGroup=S SyncType=Clone\n";

	whole_rules("[gone]\nstate = away\n");
	whole_until(f_is(CIM_STATUS_DEGRADED));
	call.cmd = (struct engine_command){ .verb = ENGINE_WRITE,
					    .class = ENGINE_GROUP,
					    .id = group("T"),
					    .file = GROUP_SPEC,
					    .text = spec,
					    .len = strlen(spec) };
	whole_send(&call);
	put_line("R", GROUP_CONTROL, "ReturnToResourcePool", 0);
	settle();
	ck_assert_uint_ne(group("S"), 0);
	engine_interrupt(engine, &call.cmd);
	whole_wait(&call);
	ck_assert_int_eq(call.cmd.outcome.error, EINTR);
	ck_assert_uint_eq(whole_state(group("T")), CIM_COPY_NOT_APPLICABLE);
	settle();
	n_alone = 0; /* nothing else changes with this one */
}

static bool has_ended(const char *name)
{
	uint64_t g = group(name);
	struct group_info info;

	return !g || engine_group_info(engine, g, &info) < 0 || !info.has_relationship;
}

/* A step of the group `name`. */
static void do_with(const char *name, const char *what)
{
	const char *value = strchr(what, '=');
	char property[32];

	if (value) {
		snprintf(property, sizeof(property), "%.*s", (int)(value - what), what);
		put_line(name, property_of(property), value + 1, 0);
	} else if (!strcmp(what, "return")) {
		put_line(name, GROUP_CONTROL, "ReturnToResourcePool", 0);
	} else if (!strcmp(what, "wait")) {
		whole_until(has_ended(name));
	} else {
		put_line(name, GROUP_CONTROL, "Detach",
			 whole_info(group(name)).sync_type == CIM_SYNC_SNAPSHOT ?
				 CIM_RETURN_JOB_STARTED :
				 0);
		if (!strcmp(what, "detach"))
			whole_until(has_ended(name));
	}
}

static void step(const char *what)
{
	const char name[2] = { *what, '\0' };

	if (what[1] == '.') {
		do_with(name, what + 2);
	} else if (!strcmp(what, "clone")) {
		put_line("R", GROUP_SPEC,
			 "SourceGroup=S SyncType=Clone WaitForCopyState=Synchronized", 0);
	} else if (!strcmp(what, "snapshot")) {
		put_line("R", GROUP_SPEC, "SourceGroup=S SyncType=Snapshot", 0);
	} else if (!strcmp(what, "third")) {
		put_line("T", GROUP_SPEC, "SourceGroup=S SyncType=Snapshot", 0);
	} else if (!strcmp(what, "refused")) {
		put_line("R", GROUP_SPEC, "SourceGroup=S SyncType=Mirror",
			 CIM_RETURN_NOT_SUPPORTED);
	} else if (!strcmp(what, "meanwhile")) {
		meanwhile();
	} else {
		ck_assert_str_eq(what, "restart");
		whole_stop();
		ck_assert_int_eq(whole_start(), 0);
	}
	settle();
}

static void check_left(const char *row, const char *left, bool image)
{
	for (const char *name = "RST"; *name; name++) {
		const char text[2] = { *name, '\0' };

		ck_assert_msg(!group(text) == !strchr(left, *name), "%s: group %s %s",
			      row, text, group(text) ? "is there" : "has gone");
	}
	ROW_EQ(row, whole_element("R_1") != 0, image);
	ROW_EQ(row, whole_element("a") != 0, true);
}

START_TEST(a_group_goes_when_its_properties_say_so_and_else_stays)
{
	for (size_t i = 0; i < ROWS(lives); i++) {
		char steps[256], *word, *next;

		whole_setup();
		whole_until(f_is(CIM_STATUS_OK));
		whole_group("S", "a f");
		whole_make(ENGINE_GROUP, "R");
		whole_make(ENGINE_GROUP, "T");
		n_alone = 0;
		snprintf(steps, sizeof(steps), "%s", lives[i].steps);
		for (word = strtok_r(steps, " ", &next); word;
		     word = strtok_r(NULL, " ", &next))
			step(word);
		check_left(lives[i].name, lives[i].left, lives[i].image);
		ROW_EQ(lives[i].name, n_alone, 0);
		whole_rules("");
		step("restart");
		check_left(lives[i].name, lives[i].left, lives[i].image);
		whole_teardown();
	}
}
END_TEST

START_TEST(a_group_that_goes_is_told_of)
{
	uint64_t s, r, job;
	struct job_info info;

	whole_setup();
	whole_until(f_is(CIM_STATUS_OK));
	s = whole_group("S", "a f");
	r = whole_make(ENGINE_GROUP, "R");
	step("S.Persistent=false");
	step("R.Persistent=false");
	step("snapshot");
	put_line("R", GROUP_CONTROL, "Detach", CIM_RETURN_JOB_STARTED);
	job = whole_info(r).job;
	whole_until(!group("R") && !group("S"));
	ck_assert_uint_eq(whole_n_events(ENGINE_GROUP, ENGINE_EVENT_REMOVED), 2);
	ck_assert_uint_ge(
		whole_events(ENGINE_ELEMENT, whole_element("a"), ELEMENT_GROUPS), 2);
	ck_assert_str_eq(whole_list(ENGINE_ELEMENT, whole_element("a"), ELEMENT_GROUPS),
			 "");
	ck_assert_int_eq(engine_wait_check(engine, s, CIM_COPY_SYNCHRONIZED, 0), -ENODEV);
	ck_assert_uint_eq(whole_put(s, GROUP_MEMBERS, "b\n", NULL),
			  CIM_RETURN_INVALID_PARAMETER);
	/* Its job is still there, also after a restart, and has no group any more. */
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(engine_job_info(engine, job, &info), 0);
		ck_assert_uint_eq(info.state, CIM_JOB_COMPLETED);
		ck_assert_str_eq(info.group, "");
		step("restart");
	}
	whole_teardown();
}
END_TEST

/* ---- what is refused ---------------------------------------------------------------- */

enum what { MEMBERS, PROPERTY, MKDIR, RMDIR };

/* S "a b" is the source of R, O is the replica of a relationship that was detached, P
 * has "a c", T has a spec under way, of Q "f". */
static const struct {
	enum what what;
	const char *group, *text;
	unsigned code;
	int error;
	const char *words;
} refusals[] = {
	{ MEMBERS, "S", "c", 6, EBUSY, "source of \"R\"; write Detach" },
	{ MEMBERS, "S", "-a", 6, EBUSY, "groups/R/control" },
	{ MEMBERS, "S", "", 6, EBUSY, "source of \"R\"" },
	{ MEMBERS, "R", "", 6, EBUSY, "target of \"R\"" },
	{ MEMBERS, "R", "+a", 6, EBUSY, "groups/R/control" },
	{ MEMBERS, "T", "a", 6, EBUSY, "spec that names it" },
	{ MEMBERS, "Q", "+a", 6, EBUSY, "spec that names it" },
	{ RMDIR, "S", "", 6, EBUSY, "source of \"R\"; write Detach" },
	{ RMDIR, "R", "", 6, EBUSY, "groups/R/control" },
	{ RMDIR, "T", "", 6, EBUSY, "spec that names it" },
	{ RMDIR, "Q", "", 6, EBUSY, "spec that names it" },
	{ MEMBERS, "P", "a nope c", 5, ENOENT, "\"nope\"" },
	{ MEMBERS, "P", "b b", 5, EINVAL, "\"b\" would be in the list twice" },
	{ MEMBERS, "P", "+b +b", 5, EINVAL, "twice" },
	{ MEMBERS, "P", "+b -f", 5, EINVAL, "\"f\" is not in the list" },
	{ MEMBERS, "P", "-a -a", 5, EINVAL, "\"a\" is not in the list" },
	{ MEMBERS, "P", "+0123456789012345678901234567890123456789x", 5, ENAMETOOLONG,
	  "40" },
	{ PROPERTY, "P", "maybe", 5, EINVAL, "DeleteOnUnassociated: \"maybe\"" },
	{ PROPERTY, "P", "", 5, EINVAL, "write true or false" },
	{ MKDIR, "P", "", 5, EEXIST, "already" },
	{ MKDIR, "-x", "", 5, EINVAL, "-x" },
	{ MKDIR, "0123456789012345678901234567890123", "", 5, ENAMETOOLONG, "0123" },
	/* And what is not. */
	{ MEMBERS, "P", "+a +c", 0, 0, "" }, /* AddMembers of those that are there */
	{ MEMBERS, "P", "-a +a -c +c", 0, 0, "" },
	{ PROPERTY, "S", "false", 0, 0, "" },
	{ PROPERTY, "R", "0", 0, 0, "" },
};

static const char *const all_groups[] = { "S", "R", "O", "P", "Q", "T" };

static void note_lists(char lists[ROWS(all_groups)][64])
{
	for (size_t i = 0; i < ROWS(all_groups); i++)
		snprintf(lists[i], 64, "%s",
			 whole_list(ENGINE_GROUP, group(all_groups[i]), GROUP_MEMBERS));
}

static void check_refusal(size_t i)
{
	struct engine_command cmd = { .class = ENGINE_GROUP };
	char line[64], row[96];

	snprintf(row, sizeof(row), "row %zu: %s: %s", i, refusals[i].group,
		 refusals[i].text);
	snprintf(line, sizeof(line), "%s\n", refusals[i].text);
	cmd.verb = refusals[i].what == MKDIR ? ENGINE_CREATE :
		   refusals[i].what == RMDIR ? ENGINE_REMOVE :
					       ENGINE_WRITE;
	cmd.name = refusals[i].group;
	cmd.id = group(refusals[i].group);
	cmd.file = refusals[i].what == PROPERTY ? GROUP_DELETE_ON_UNASSOCIATED :
						  GROUP_MEMBERS;
	cmd.text = line;
	cmd.len = strlen(line);
	ROW_EQ(row, whole_run(cmd, &cmd), refusals[i].code);
	ROW_EQ(row, cmd.outcome.error, refusals[i].error);
	ROW_HAS(row, cmd.outcome.sentence, refusals[i].words);
}

START_TEST(what_is_refused_says_why_and_changes_nothing)
{
	static const char spec[] = "SourceGroup=Q SyncType=Clone\n";
	char before[ROWS(all_groups)][64], after[ROWS(all_groups)][64];
	struct whole_call call = { 0 };

	whole_setup();
	whole_until(f_is(CIM_STATUS_OK));
	whole_group("S", "a b");
	whole_replica("R", "SourceGroup=S SyncType=Snapshot", 0);
	whole_replica("O", "SourceGroup=S SyncType=Clone WaitForCopyState=Synchronized",
		      0);
	put_line("O", GROUP_CONTROL, "Detach", 0);
	whole_group("P", "a c");
	whole_group("Q", "f");
	whole_make(ENGINE_GROUP, "T");
	whole_rules("[gone]\nstate = away\n");
	whole_until(f_is(CIM_STATUS_DEGRADED));
	call.cmd = (struct engine_command){ .verb = ENGINE_WRITE,
					    .class = ENGINE_GROUP,
					    .id = group("T"),
					    .file = GROUP_SPEC,
					    .text = spec,
					    .len = strlen(spec) };
	whole_send(&call);
	note_lists(before);
	for (size_t i = 0; i < ROWS(refusals); i++) {
		check_refusal(i);
		note_lists(after);
		for (size_t k = 0; k < ROWS(all_groups); k++)
			ck_assert_msg(!strcmp(before[k], after[k]), "row %zu: %s: %s", i,
				      all_groups[k], after[k]);
	}
	engine_interrupt(engine, &call.cmd);
	whole_wait(&call);
	/* rmdir takes a group with its list, and no element. */
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, group("O")), 0);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, group("P")), 0);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, group("Q")), 0);
	ck_assert_uint_ne(whole_element("O_1"), 0);
	ck_assert_uint_ne(whole_element("c"), 0);
	ck_assert_str_eq(whole_list(ENGINE_ELEMENT, whole_element("c"), ELEMENT_GROUPS),
			 "");
	/* It is nobody's member now. */
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, whole_element("O_1")), 0);
	whole_rules("");
	whole_teardown();
}
END_TEST

START_TEST(a_list_keeps_its_order)
{
	static const struct {
		const char *text, *list;
		bool append;
	} rows[] = {
		{ "c a\n", "c\na\n", false },
		{ "+b\n", "c\na\nb\n", false },
		{ "+c f\n", "c\na\nb\nf\n", false },
		{ "-a\n", "c\nb\nf\n", false },
		{ "a b\n", "c\nb\nf\na\n", true },
		{ "-c +c\n", "b\nf\na\nc\n", false },
		{ "b\n", "b\n", false },
		{ "\n", "", false },
	};
	struct engine_command cmd;
	uint64_t g;

	whole_setup();
	g = whole_make(ENGINE_GROUP, "g");
	for (size_t i = 0; i < ROWS(rows); i++) {
		whole_run((struct engine_command){ .verb = ENGINE_WRITE,
						   .class = ENGINE_GROUP,
						   .id = g,
						   .file = GROUP_MEMBERS,
						   .text = rows[i].text,
						   .len = strlen(rows[i].text),
						   .append = rows[i].append },
			  &cmd);
		ROW_EQ(rows[i].text, cmd.outcome.error, 0);
		ROW_STR_EQ(rows[i].text, whole_list(ENGINE_GROUP, g, GROUP_MEMBERS),
			   rows[i].list);
	}
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_group_goes_when_its_properties_say_so_and_else_stays,
		a_group_that_goes_is_told_of,
		what_is_refused_says_why_and_changes_nothing,
		a_list_keeps_its_order,
	};

	return unit_main("group", tests, ROWS(tests));
}
