/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_CAPABILITY_H
#define LUNFS_CAPABILITY_H

/*
 * The value maps of CIM_ReplicationServiceCapabilities (CIM schema 2.49), in the form of
 * conf/cim.h.  Features and group features number the same ideas differently.
 */

#include <stdbool.h>

#include "conf/cim.h"

#define CAPABILITY_REPLICATION_TYPE(X)                                                 \
	X(CAPABILITY_SYNC_MIRROR_LOCAL, 2, "Synchronous Mirror Local")                 \
	X(CAPABILITY_ASYNC_MIRROR_LOCAL, 3, "Asynchronous Mirror Local")               \
	X(CAPABILITY_SYNC_MIRROR_REMOTE, 4, "Synchronous Mirror Remote")               \
	X(CAPABILITY_ASYNC_MIRROR_REMOTE, 5, "Asynchronous Mirror Remote")             \
	X(CAPABILITY_SYNC_SNAPSHOT_LOCAL, 6, "Synchronous Snapshot Local")             \
	X(CAPABILITY_ASYNC_SNAPSHOT_LOCAL, 7, "Asynchronous Snapshot Local")           \
	X(CAPABILITY_SYNC_SNAPSHOT_REMOTE, 8, "Synchronous Snapshot Remote")           \
	X(CAPABILITY_ASYNC_SNAPSHOT_REMOTE, 9, "Asynchronous Snapshot Remote")         \
	X(CAPABILITY_SYNC_CLONE_LOCAL, 10, "Synchronous Clone Local")                  \
	X(CAPABILITY_ASYNC_CLONE_LOCAL, 11, "Asynchronous Clone Local")                \
	X(CAPABILITY_SYNC_CLONE_REMOTE, 12, "Synchronous Clone Remote")                \
	X(CAPABILITY_ASYNC_CLONE_REMOTE, 13, "Asynchronous Clone Remote")              \
	X(CAPABILITY_SYNC_TOKENIZED_LOCAL, 14, "Synchronous TokenizedClone Local")     \
	X(CAPABILITY_ASYNC_TOKENIZED_LOCAL, 15, "Asynchronous TokenizedClone Local")   \
	X(CAPABILITY_SYNC_TOKENIZED_REMOTE, 16, "Synchronous TokenizedClone Remote")   \
	X(CAPABILITY_ASYNC_TOKENIZED_REMOTE, 17, "Asynchronous TokenizedClone Remote") \
	X(CAPABILITY_ADAPTIVE_MIRROR_LOCAL, 18, "Adaptive Mirror Local")               \
	X(CAPABILITY_ADAPTIVE_MIRROR_REMOTE, 19, "Adaptive Mirror Remote")             \
	X(CAPABILITY_ADAPTIVE_SNAPSHOT_LOCAL, 20, "Adaptive Snapshot Local")           \
	X(CAPABILITY_ADAPTIVE_SNAPSHOT_REMOTE, 21, "Adaptive Snapshot Remote")         \
	X(CAPABILITY_ADAPTIVE_CLONE_LOCAL, 22, "Adaptive Clone Local")                 \
	X(CAPABILITY_ADAPTIVE_CLONE_REMOTE, 23, "Adaptive Clone Remote")               \
	X(CAPABILITY_ADAPTIVE_TOKENIZED_LOCAL, 24, "Adaptive TokenizedClone Local")    \
	X(CAPABILITY_ADAPTIVE_TOKENIZED_REMOTE, 25, "Adaptive TokenizedClone Remote")  \
	X(CAPABILITY_ACTIVE_MIRROR_LOCAL, 26, "Active Mirror Local")                   \
	X(CAPABILITY_ACTIVE_MIRROR_REMOTE, 27, "Active Mirror Remote")

#define CAPABILITY_STORAGE_OBJECT(X)                     \
	X(CAPABILITY_STORAGE_VOLUME, 2, "StorageVolume") \
	X(CAPABILITY_LOGICAL_DISK, 3, "LogicalDisk")     \
	X(CAPABILITY_REPLICATION_ENTITY, 4, "ReplicationEntity")

/* Of SupportedSynchronousActions and SupportedAsynchronousActions: those that the tree
 * has. */
#define CAPABILITY_ACTION(X)                                                    \
	X(CAPABILITY_CREATE_GROUP_REPLICA, 3, "CreateGroupReplica")             \
	X(CAPABILITY_MODIFY_SYNCHRONIZATION, 5, "ModifyReplicaSynchronization") \
	X(CAPABILITY_GET_RELATIONSHIPS, 10, "GetReplicationRelationships")      \
	X(CAPABILITY_CREATE_GROUP, 12, "CreateGroup")                           \
	X(CAPABILITY_DELETE_GROUP, 13, "DeleteGroup")                           \
	X(CAPABILITY_ADD_MEMBERS, 14, "AddMembers")                             \
	X(CAPABILITY_REMOVE_MEMBERS, 15, "RemoveMembers")

#define CAPABILITY_FEATURE(X)                                                          \
	X(CAPABILITY_GROUPS, 2, "Replication groups")                                  \
	X(CAPABILITY_SUSPENDS_SOURCE, 7, "Service suspends source I/O when necessary") \
	X(CAPABILITY_ANY_POOL, 8, "Targets allocated from Any storage pool")           \
	X(CAPABILITY_ADJUSTABLE_PRIORITY, 24, "Adjustable CopyPriority")               \
	X(CAPABILITY_DETACHED_IS_VOLUME, 63,                                           \
	  "Detach a snapshot makes snapshot an independent volume")

#define CAPABILITY_GROUP_FEATURE(X)                                                      \
	X(CAPABILITY_ONE_TO_MANY, 2, "One-to-many replication")                          \
	X(CAPABILITY_MANY_TO_MANY, 3, "Many-to-many groups")                             \
	X(CAPABILITY_EMPTY_GROUPS, 5, "Empty replication groups allowed")                \
	X(CAPABILITY_COMPOSITE_GROUPS, 7, "Composite Groups")                            \
	X(CAPABILITY_TEMPORARY_GROUPS, 13, "Group can be temporary")                     \
	X(CAPABILITY_NAMED_GROUPS, 14, "Group is nameable")                              \
	X(CAPABILITY_TARGET_COUNT, 15, "Supports target element count")                  \
	X(CAPABILITY_MANY_GROUPS, 23, "Element can be member of multiple groups")        \
	X(CAPABILITY_MIXED_GROUPS, 24, "Elements of group can be mix of thin and thick") \
	X(CAPABILITY_NO_TARGET_GROUP, 34, "TargetGroup shall not be supplied")           \
	X(CAPABILITY_NO_TARGET_POOL, 35, "TargetPool shall not be supplied")             \
	X(CAPABILITY_NO_TARGET_GOAL, 36, "TargetSettingGoal shall not be supplied")      \
	X(CAPABILITY_EMPTY_TARGETS, 42, "CreateGroupReplica only accepts empty groups")  \
	X(CAPABILITY_RELATIONSHIP_NAME, 56, "Client can supply RelationshipName")

#define CAPABILITY_THIN_FEATURE(X)                                      \
	X(CAPABILITY_NOT_THIN, 1, "Thin provisioning is not supported") \
	X(CAPABILITY_THIN_ZEROS, 2,                                     \
	  "Zeros written in unused allocated blocks of target")         \
	X(CAPABILITY_THIN_NOTHING, 3,                                   \
	  "Unused allocated blocks of target are not initialized")

#define CAPABILITY_COMPONENT(X)                                             \
	X(CAPABILITY_MAX_GROUPS, 2, "Number of groups")                     \
	X(CAPABILITY_MAX_SOURCES, 3, "Number of elements per source group") \
	X(CAPABILITY_MAX_TARGETS, 4, "Number of elements per target group") \
	X(CAPABILITY_MAX_TARGETS_OF_SOURCE, 5,                              \
	  "Number of target elements per source element")                   \
	X(CAPABILITY_MAX_ALL_SOURCES, 6, "Number of total source elements") \
	X(CAPABILITY_MAX_ALL_TARGETS, 7, "Number of total target elements") \
	X(CAPABILITY_MAX_HOPS, 9, "Number of hops in multi-hop copy")

#define CAPABILITY_PERSISTENCY(X)                                 \
	X(CAPABILITY_NO_PERSISTENCY, 0, "No default persistency") \
	X(CAPABILITY_PERSISTENT, 2, "Persistent")                 \
	X(CAPABILITY_NOT_PERSISTENT, 3, "Not Persistent")

enum capability_replication_type { CAPABILITY_REPLICATION_TYPE(CIM_ENUM_) };
enum capability_storage_object { CAPABILITY_STORAGE_OBJECT(CIM_ENUM_) };
enum capability_action { CAPABILITY_ACTION(CIM_ENUM_) };
enum capability_feature { CAPABILITY_FEATURE(CIM_ENUM_) };
enum capability_group_feature { CAPABILITY_GROUP_FEATURE(CIM_ENUM_) };
enum capability_thin_feature { CAPABILITY_THIN_FEATURE(CIM_ENUM_) };
enum capability_component { CAPABILITY_COMPONENT(CIM_ENUM_) };
enum capability_persistency { CAPABILITY_PERSISTENCY(CIM_ENUM_) };

extern const struct cim_map capability_replication_type, capability_storage_object,
	capability_action, capability_feature, capability_group_feature,
	capability_thin_feature, capability_component, capability_persistency;

/* The replication type, which ConvertSyncTypeToReplicationType gives, of a SyncType and
 * a Mode (2 to 4). */
unsigned capability_type_of(unsigned sync_type, unsigned mode, bool remote);

#endif
