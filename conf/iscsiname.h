/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_ISCSINAME_H
#define LUNFS_ISCSINAME_H

/* iSCSI names and portals (RFC 7143 sections 4.2.7 and 4.2.7.1). */

#include <stddef.h>

#include "conf/name.h"

enum {
	ISCSINAME_MAX_LEN = 223, /* RFC 7143 4.2.7.1 */
	ISCSINAME_PORTAL_SIZE = 272,
	ISCSINAME_MAX_LUN = 16383, /* flat space addressing, SAM-5 4.7.7.3 */
};

/*
 * `iqn.yyyy-mm.naming.authority[:rest]`, `eui.` with 16 or `naa.` with 16 or 32
 * hex digits.  Targets in use do not keep to the letters of RFC 3722, so in an
 * iqn only blanks, control characters and `/ @ ? % " \` are refused.  0,
 * -EINVAL, -ENAMETOOLONG.
 */
int iscsiname_check(const char *name);

/*
 * A portal `host`, `host:port`, `[v6]` or `[v6]:port`; *ret_portal gets it with
 * its port (3260 if none is given).  0 or -EINVAL.
 */
int iscsiname_portal(const char *text, char ret_portal[static ISCSINAME_PORTAL_SIZE]);

/* A LUN: decimal, 0 to 16383.  0 or -EINVAL. */
int iscsiname_lun(const char *text, unsigned *ret_lun);

/*
 * The name of the element that a LUN becomes that has no section of its own; target is
 * an iSCSI name.  `<iqn>_<lun>` with each `:` as `_`, where that is at most 40 bytes
 * and nothing else had to be changed; then no other target has it.  Else
 * `<hash>_<tail>_<lun>`: 12 hex digits of the whole name, and its end with `_` for what
 * a name cannot have.  Two targets with one hash and one end have the same name: the
 * caller compares.
 */
void iscsiname_element(const char *target, unsigned lun,
		       char ret_name[static NAME_ELEMENT_MAX_LEN + 1]);

#endif
