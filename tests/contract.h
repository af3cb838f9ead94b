/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TESTS_CONTRACT_H
#define LUNFS_TESTS_CONTRACT_H

/*
 * CreateGroupReplica as its users find it: a text for `spec`, and the answer.  The rows
 * are in contract_rows.c; check_contract.c carries them out and holds them to the tables
 * of the code, so that no parameter and no value is without a row.
 *
 * The world of the rows: exclusive elements a, b, c, f, t1, t2 (twice the size) and t3
 * (half of it), a shared one s; taken_1, which has no device, and the image live_1;
 * groups
 *	prod (a, b)   mixed (a, s)   empty   mine (t1)   luns (t1, t2)   ones (t1)
 *	smalls (t3)   shareds (s)   useds (c)   image (live_1)
 *	live: a Snapshot of c   kept: what was a Clone of c, the image kept_1
 *	g: empty, whose spec is written where a row does not say another.
 */

#include <stddef.h>
#include <stdint.h>

struct contract_row {
	/* One line without its newline, which is sent as INI, too; or, if it has
	 * newlines, the whole text. */
	const char *text;
	uint32_t code;
	int error; /* 0: is accepted */
	/* Refused: a part of the sentence.  Accepted: what `spec` reads back, with | for
	 * a newline, without the RelationshipName=g and the [Run] around it. */
	const char *words;
	const char *group; /* whose spec; NULL: g */
};

struct contract_table {
	const char *name;
	const struct contract_row *rows;
	size_t n;
};

extern const struct contract_table contract_tables[];
extern const size_t contract_n_tables;

/* A value of a property of [ReplicationSettingData] or [TargetSettingGoal]
 * (contract_settings.c). */
struct contract_value {
	const char *value; /* "": the property is there without one */
	/* Taken, or not supported: how the value reads back, which the sentence has, too.
	 * Invalid: a part of the sentence. */
	const char *words;
	uint32_t snapshot, clone; /* a code; 0: is taken, with that SyncType */
	const char *parameters;	  /* NULL: the property's */
};

struct contract_property {
	const char *name;
	const struct contract_value *values;
	size_t n;
	const char *null_of_snapshot, *null_of_clone; /* what holds without it; NULL:
						       * nothing */
	const char *parameters; /* of the call, a line each, as they read back */
};

extern const struct contract_property contract_properties[], contract_goals[];
extern const size_t contract_n_properties, contract_n_goals;

#endif
