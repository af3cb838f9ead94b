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
 *	live: a Snapshot of c
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

/* What a [ReplicationSettingData] of one property is answered. */
struct contract_property {
	const char *name;
	uint32_t code;	   /* of a valid value */
	const char *words; /* of the sentence then */
	const char *value; /* a valid one, of a property without a value map */
};

extern const struct contract_property contract_properties[], contract_goals[];
extern const size_t contract_n_properties, contract_n_goals;

#endif
