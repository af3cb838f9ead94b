/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_SCSI_H
#define LUNFS_SCSI_H

/*
 * What of SPC-4 and SBC-3 a disk needs: commands built, answers taken apart,
 * failures judged.  Pure functions over bytes; no connection, no libiscsi.
 *
 * A parser takes what the target sent (of any length, never trusted) and
 * returns 0, or -EPROTO if it is too short or not the page it should be, with
 * its result untouched.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Commands. */

enum scsi_direction { SCSI_NO_DATA, SCSI_DATA_IN, SCSI_DATA_OUT };

struct scsi_command {
	uint8_t cdb[16];
	int cdb_len;
	enum scsi_direction direction;
	uint32_t length; /* bytes of data; for SCSI_DATA_IN at most */
};

enum {
	SCSI_UNMAP_PARAM_LEN = 24,
	SCSI_PR_OUT_PARAM_LEN = 24,

	SCSI_VPD_SUPPORTED_PAGES = 0x00,
	SCSI_VPD_SERIAL = 0x80,
	SCSI_VPD_IDENTIFICATION = 0x83,
	SCSI_VPD_BLOCK_LIMITS = 0xb0,
	SCSI_VPD_PROVISIONING = 0xb2,
	SCSI_NO_VPD = -1,

	SCSI_MODE_CACHING = 0x08,
	SCSI_MODE_ALL = 0x3f,
};

/* Service actions and the type of SPC-4 6.15 and 6.16. */
enum scsi_pr_in {
	SCSI_PR_READ_KEYS = 0,
	SCSI_PR_READ_RESERVATION = 1,
	SCSI_PR_REPORT_CAPABILITIES = 2
};
enum scsi_pr_out {
	SCSI_PR_REGISTER = 0,
	SCSI_PR_RESERVE = 1,
	SCSI_PR_RELEASE = 2,
	SCSI_PR_CLEAR = 3,
	SCSI_PR_PREEMPT = 4,
	SCSI_PR_REGISTER_AND_IGNORE = 6,
};
enum scsi_pr_type {
	SCSI_PR_WRITE_EXCLUSIVE = 1,
	SCSI_PR_WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5,
};

void scsi_make_test_unit_ready(struct scsi_command *c);
/* page: SCSI_VPD_*, or SCSI_NO_VPD for the standard data. */
void scsi_make_inquiry(struct scsi_command *c, int page, uint16_t length);
void scsi_make_read_capacity10(struct scsi_command *c);
void scsi_make_read_capacity16(struct scsi_command *c);
void scsi_make_mode_sense6(struct scsi_command *c, uint8_t page, uint8_t length);
/* lba and blocks in logical blocks, length in bytes. */
void scsi_make_read16(struct scsi_command *c, uint64_t lba, uint32_t blocks,
		      uint32_t length);
void scsi_make_write16(struct scsi_command *c, uint64_t lba, uint32_t blocks,
		       uint32_t length, bool fua);
/* The data is one block; blocks is not 0. */
void scsi_make_write_same16(struct scsi_command *c, uint64_t lba, uint32_t blocks,
			    uint32_t block_size, bool unmap);
void scsi_make_unmap(struct scsi_command *c, uint8_t param[SCSI_UNMAP_PARAM_LEN],
		     uint64_t lba, uint32_t blocks);
/* Of the whole device. */
void scsi_make_synchronize_cache10(struct scsi_command *c);
void scsi_make_synchronize_cache16(struct scsi_command *c);
void scsi_make_get_lba_status(struct scsi_command *c, uint64_t lba, uint32_t length);
void scsi_make_pr_in(struct scsi_command *c, enum scsi_pr_in action, uint16_t length);
/* type: of RESERVE, RELEASE and PREEMPT; the others have none. */
void scsi_make_pr_out(struct scsi_command *c, uint8_t param[SCSI_PR_OUT_PARAM_LEN],
		      enum scsi_pr_out action, enum scsi_pr_type type, uint64_t key,
		      uint64_t action_key, bool aptpl);

/* Answers. */

/* Standard INQUIRY data; texts without leading and trailing blanks, bytes that
 * are not printable ASCII as '?'. */
struct scsi_identity {
	uint8_t qualifier;   /* 0: connected; 1, 3: there is no such unit */
	uint8_t device_type; /* 0: a disk */
	char vendor[9], product[17], revision[5];
};
int scsi_parse_inquiry(const uint8_t *data, size_t len, struct scsi_identity *ret);

/* True if VPD page 0x00 names the page. */
bool scsi_has_page(const uint8_t *data, size_t len, uint8_t page);

int scsi_parse_serial(const uint8_t *data, size_t len, char ret_serial[253]);

/* The best designator of the logical unit: "naa.…", else "eui.…", else
 * "t10.…"; "" when the page has none of these. */
int scsi_parse_wwn(const uint8_t *data, size_t len, char ret_wwn[260]);

/* VPD 0xB0, in logical blocks; 0 = no limit reported. */
struct scsi_limits {
	uint32_t max_transfer;
	uint32_t opt_transfer;
	uint32_t max_unmap;
	uint64_t max_write_same;
};
int scsi_parse_limits(const uint8_t *data, size_t len, struct scsi_limits *ret);

/* VPD 0xB2. */
struct scsi_provisioning {
	bool unmap;	 /* LBPU */
	bool write_same; /* LBPWS: WRITE SAME(16) with the UNMAP bit */
	bool zeros;	 /* LBPRZ says that unmapped blocks read as zeros */
	bool pattern;	 /* LBPRZ says that they read as a vendor's pattern */
};
int scsi_parse_provisioning(const uint8_t *data, size_t len,
			    struct scsi_provisioning *ret);

struct scsi_capacity {
	uint64_t blocks;
	uint32_t block_size; /* bytes, a power of two from 512 to 65536 */
	bool thin;	     /* LBPME */
	bool zeros;	     /* LBPRZ */
};
int scsi_parse_capacity16(const uint8_t *data, size_t len, struct scsi_capacity *ret);
/* blocks is 0 when the device is too large for the command's answer. */
int scsi_parse_capacity10(const uint8_t *data, size_t len, struct scsi_capacity *ret);

/* MODE SENSE(6), with or without the caching page. */
struct scsi_caching {
	bool write_protect;
	bool fua;	  /* DPOFUA: WRITE takes the FUA bit */
	bool has_page;	  /* write_cache was read from the page */
	bool write_cache; /* WCE */
};
int scsi_parse_caching(const uint8_t *data, size_t len, struct scsi_caching *ret);

/* GET LBA STATUS.  The runs are as the target sent them. */
struct scsi_lba_run {
	uint64_t lba;
	uint32_t blocks;
	bool mapped; /* false: deallocated or anchored */
};
/* At most max runs; *ret_n is untouched on failure. */
int scsi_parse_lba_status(const uint8_t *data, size_t len, struct scsi_lba_run *ret_runs,
			  size_t max, size_t *ret_n);

/* PERSISTENT RESERVE IN.  READ KEYS: the first key of the list that is not
 * `own`, or 0. */
int scsi_parse_keys(const uint8_t *data, size_t len, uint64_t own, uint64_t *ret_foreign);
/* READ KEYS: whether the key is in the list. */
bool scsi_has_key(const uint8_t *data, size_t len, uint64_t key);
/* READ RESERVATION: *ret_held false when there is none. */
int scsi_parse_reservation(const uint8_t *data, size_t len, bool *ret_held,
			   uint64_t *ret_key, uint8_t *ret_type);
/* REPORT CAPABILITIES: PTPL_C. */
int scsi_parse_pr_capabilities(const uint8_t *data, size_t len, bool *ret_aptpl);

/* Failures. */

enum {
	SCSI_GOOD = 0x00,
	SCSI_CHECK_CONDITION = 0x02,
	SCSI_CONDITION_MET = 0x04,
	SCSI_BUSY = 0x08,
	SCSI_RESERVATION_CONFLICT = 0x18,
	SCSI_TASK_SET_FULL = 0x28,
	SCSI_ACA_ACTIVE = 0x30,
	SCSI_TASK_ABORTED = 0x40,
};

enum scsi_verdict {
	SCSI_DONE,
	SCSI_AGAIN,	  /* send it again, at once the first time */
	SCSI_AGAIN_LATER, /* send it again after a while */
	SCSI_IDENTIFY,	  /* is this still the same device?  Then send it again */
	SCSI_UNSUPPORTED, /* the target does not know the command or a field */
	SCSI_BAD_MEDIUM,  /* blocks that cannot be read */
	SCSI_FAILED,
};

struct scsi_outcome {
	enum scsi_verdict verdict;
	int error; /* 0 for SCSI_DONE, else -errno: what to answer if nothing
		    * better is done about it; never one that is not in the
		    * table of scsi.c, which ends with -EIO */
	uint8_t status;
	bool has_sense;
	uint8_t key;
	uint16_t code;	      /* ASC and ASCQ */
	bool has_information; /* VALID: */
	uint64_t information; /* the first bad block of a medium error */
};

/* sense: as SPC-4 4.5 lays it out (fixed or descriptor format), len bytes; any
 * length, also 0. */
void scsi_judge(uint8_t status, const uint8_t *sense, size_t len,
		struct scsi_outcome *ret);

/* "medium error (3/1100)", "busy" */
void scsi_describe(const struct scsi_outcome *outcome, char *buf, size_t size);

#endif
