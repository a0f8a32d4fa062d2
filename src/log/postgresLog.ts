/**
 * A log in PostgreSQL.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { ChangeLogError } from "./ChangeLog.js"
import type { LogTable } from "./logTable.js"
import type { OpenLog } from "./sqlLog.js"

export const open = (_: SqlClient.SqlClient, table: LogTable): Effect.Effect<OpenLog, ChangeLogError | SqlError> =>
  Effect.fail(new ChangeLogError({ reason: "UnsafeTable", log: table.name, message: "not yet" }))
