/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Makes lunfs-control(5): standard input is the page, in which a line @NAME@ stands for
 * what transition.c knows.  A program of the build, not installed.
 */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cim.h"
#include "conf/outcome.h"
#include "engine/transition.h"

/* Its text blocks are neither adjusted nor hyphenated. */
static void begin_table(const char *format)
{
	printf(".na\n.nh\n.TS\n%s.\n", format);
}

static void end_table(void)
{
	printf(".TE\n.hy\n.ad\n");
}

/* "Aborted (complete: as before)" */
static void put_states(unsigned states)
{
	char text[256];

	transition_describe_states(states & ~(TRANSITION_STAYS | TRANSITION_ENDS), text,
				   sizeof(text));
	printf("%s", text);
	if (states & TRANSITION_STAYS)
		printf("%s", *text ? " (complete: as before)" : "as before");
	if (states & TRANSITION_ENDS)
		printf("no relationship");
	if (!states)
		printf("\\-");
}

static void put_when(const struct transition *t)
{
	if (t->detaching == TRANSITION_ONLY_THEN)
		printf("; only while it detaches");
	else if (t->detaching == TRANSITION_ALSO_THEN)
		printf("; also while it detaches");
	if (t->beside)
		printf("; beside others");
}

static void put_row(const struct transition *t)
{
	printf("T{\n%s (%u)\nT}\tT{\n", cim_name(&cim_operation, t->operation),
	       t->operation);
	put_states(t->from);
	put_when(t);
	printf("\nT}\t%u\tT{\n", t->answer);
	put_states(t->to);
	printf("\nT}\tT{\n");
	put_states(t->end);
	printf("\nT}\n");
}

static void put_transitions(unsigned sync_type)
{
	const struct transition *t;

	begin_table("lB1 lB1 lB1 lB1 lB\nlw(13n)1 lw(21n)1 l1 lw(14n)1 lw(12n)");
	printf("Operation\tFrom\tCode\tTo\tThen\n");
	for (size_t i = 0; (t = transition_row(i)); i++)
		if (t->operation && t->sync_type == sync_type)
			put_row(t);
	end_table();
}

static void put_snapshot(void)
{
	put_transitions(CIM_SYNC_SNAPSHOT);
}

static void put_clone(void)
{
	put_transitions(CIM_SYNC_CLONE);
}

static void put_event(const struct transition *t)
{
	printf("%s\tT{\n", cim_name(&cim_sync_type, t->sync_type));
	put_states(t->from);
	printf("\nT}\tT{\n");
	put_states(t->to);
	printf("\nT}\tT{\n%s\nT}\n", t->by);
}

static void put_events(void)
{
	const struct transition *t;

	begin_table("lB1 lB1 lB1 lB\nl1 lw(21n)1 lw(14n)1 lw(21n)");
	printf("SyncType\tFrom\tTo\tBy\n");
	for (size_t i = 0; (t = transition_row(i)); i++)
		if (!t->operation)
			put_event(t);
	end_table();
}

static void put_refusals(void)
{
	for (unsigned r = TRANSITION_ALLOWED + 1; r < TRANSITION_N_REFUSALS; r++)
		printf(".TP\n.B %u %s\n%c%s.\n", transition_code(r),
		       outcome_code_name(transition_code(r)), *transition_when(r) & ~0x20,
		       transition_when(r) + 1);
}

/* "Fractured (of a Snapshot)", if a Clone does not lack it, and why. */
static void put_lack(const char *name, const char *of_clone, const char *of_snapshot)
{
	const char *why = of_clone ? of_clone : of_snapshot;

	if (why)
		printf(".TP\n.B %s%s\n%c%s.\n", name, of_clone ? "" : " (of a Snapshot)",
		       *why & ~0x20, why + 1);
}

static void put_lacking(void)
{
	for (size_t i = 0; i < cim_operation.n_values; i++) {
		const struct cim_value *op = &cim_operation.values[i];
		char name[64];

		snprintf(name, sizeof(name), "%s (%u)", op->name, op->number);
		put_lack(name, transition_why_not(op->number, CIM_SYNC_CLONE),
			 transition_why_not(op->number, CIM_SYNC_SNAPSHOT));
	}
}

static void put_never(void)
{
	for (size_t i = 0; i < cim_copy_state.n_values; i++) {
		const struct cim_value *state = &cim_copy_state.values[i];

		put_lack(state->name, transition_why_never(CIM_SYNC_CLONE, state->number),
			 transition_why_never(CIM_SYNC_SNAPSHOT, state->number));
	}
}

static void put_job(void)
{
	const struct transition_job *t;

	begin_table("lB lB lB\nl l l");
	printf("RequestedState\tFrom JobState\tTo\n");
	for (size_t i = 0; (t = transition_job_row(i)); i++)
		printf("%s (%u)\t%s\t%s\n", cim_name(&cim_job_request, t->request),
		       t->request, cim_name(&cim_job_state, t->from),
		       cim_name(&cim_job_state, t->to));
	end_table();
}

static const struct {
	const char *line;
	void (*put)(void);
} parts[] = {
	{ "@SNAPSHOT@\n", put_snapshot }, { "@CLONE@\n", put_clone },
	{ "@EVENTS@\n", put_events },	  { "@REFUSALS@\n", put_refusals },
	{ "@LACKING@\n", put_lacking },	  { "@NEVER@\n", put_never },
	{ "@JOB@\n", put_job },
};

enum { N_PARTS = sizeof(parts) / sizeof(parts[0]) };

/* The part that a line stands for, or N_PARTS. */
static size_t part_of(const char *line)
{
	size_t i = 0;

	while (i < N_PARTS && strcmp(parts[i].line, line))
		i++;
	return i;
}

int main(void)
{
	bool put[N_PARTS] = { false };
	char line[512];

	while (fgets(line, sizeof(line), stdin)) {
		size_t i = part_of(line);

		if (i < N_PARTS)
			parts[i].put();
		else
			fputs(line, stdout);
		if (i < N_PARTS)
			put[i] = true;
	}
	for (size_t i = 0; i < N_PARTS; i++)
		if (!put[i]) {
			fprintf(stderr, "the page has no line %s", parts[i].line);
			return EXIT_FAILURE;
		}
	return fflush(stdout) || ferror(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
