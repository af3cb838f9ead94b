/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_BD_ISCSI_H
#define LUNFS_BD_ISCSI_H

/* The iSCSI device as its sessions see it.  All functions: any loop's thread,
 * no lock held. */

#include <stdbool.h>

#include "engine/blockdev.h"
#include "engine/iscsi_session.h"

struct bd_iscsi;

const char *bd_iscsi_name(const struct bd_iscsi *b);
const struct iscsi_settings *bd_iscsi_settings(const struct bd_iscsi *b);

bool bd_iscsi_was_ready(struct bd_iscsi *b); /* at any time since the open */

/* The device is freed with its last reference. */
void bd_iscsi_ref(struct bd_iscsi *b);
void bd_iscsi_unref(struct bd_iscsi *b);

/*
 * While no session is ready, one of them, the leader, tries alone: it asks the
 * owner of the device about the identity, the others then compare with it.
 * False: wait for ISCSI_KICK_START.
 */
bool bd_iscsi_may_log_in(struct bd_iscsi *b, struct iscsi_session *s);

/* Is this the device?  0; -EAGAIN: another session leads now; else refused, with
 * a sentence. */
int bd_iscsi_identify(struct bd_iscsi *b, struct iscsi_session *s,
		      const struct bd_info *info, char *error, size_t error_size);

/* Was the identity the same in a check of a ready session?  If not, all
 * sessions are restarted. */
bool bd_iscsi_check(struct bd_iscsi *b, const struct bd_info *info);

/* False: the device was identified as another one meanwhile. */
bool bd_iscsi_ready(struct bd_iscsi *b, struct iscsi_session *s);

/* The session takes no requests any more, or an attempt has failed. */
void bd_iscsi_down(struct bd_iscsi *b, struct iscsi_session *s, enum bd_state state,
		   const char *error);

/* The session's view: copies what s has now. */
void bd_iscsi_publish(struct bd_iscsi *b, struct iscsi_session *s, bool count_login);

/* The bd_reserve that the session is to carry out, or NULL. */
struct bd_reserve *bd_iscsi_reserving(struct bd_iscsi *b, const struct iscsi_session *s);
/* Its end; reserve->error has been set. */
void bd_iscsi_reserved(struct bd_iscsi *b, struct bd_reserve *reserve, int error);
/* The key of what the device holds for a copy, for a new session to look for; 0 =
 * nothing. */
uint64_t bd_iscsi_hold_key(struct bd_iscsi *b);
/* It is gone. */
void bd_iscsi_hold_lost(struct bd_iscsi *b);

void bd_iscsi_closed(struct bd_iscsi *b, struct iscsi_session *s);

#endif
