/**
 * Tells what a database says of a failure, in the words of a log. No value of a statement gets into a message: what databases say
 * of constraints and casts holds them.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Predicate from "effect/Predicate"
import { ChangeLogError } from "./ChangeLog.js"

/** What can be read from an error of any driver. */
interface Told {
  readonly code: string
  readonly message: string
}

const textOf = (value: unknown): string => (typeof value === "string" ? value : "")

/** The error of the driver: its code, of PostgreSQL or SQLite or of the network, and its text. */
const told = (error: SqlError): Told => {
  const { cause } = error
  if (!Predicate.isRecord(cause) && !(cause instanceof Error)) return { code: "", message: "" }
  const { code, message } = cause as { readonly code?: unknown; readonly message?: unknown }
  const text = textOf(message)
  const isCut = code === undefined && /^(connection terminated|client has encountered a connection error)/i.test(text)
  return { code: isCut ? "ECONNRESET" : textOf(code), message: text }
}

const isMissing = ({ code, message }: Told): boolean =>
  code === "42P01" || code === "42703" || code === "3F000" || /no such (table|column)/i.test(message)

/** What no second try puts right: what the statement is, who asks, and what the values are. */
const isFinal = ({ code }: Told): boolean =>
  /^(22|23|28|42|0A|3D)[0-9A-Z]{3}$/.test(code) ||
  /^SQLITE_(CONSTRAINT|MISMATCH|AUTH|READONLY|TOOBIG|RANGE|ERROR)/.test(code)

const advice: Readonly<Record<string, string>> = {
  SQLITE_BUSY: "the database is locked by another writer",
  SQLITE_FULL: "the disk or the database is full",
  SQLITE_READONLY: "the database is read-only",
  SQLITE_CORRUPT: "the database file is damaged",
  SQLITE_CANTOPEN: "the database file cannot be opened",
  "53100": "the disk is full",
  "53300": "there are too many connections",
  "57014": "the statement was cancelled",
  "57P01": "the connection was ended by the server",
  "57P02": "the server crashed",
  "57P03": "the server is starting or shutting down",
  "40001": "the transaction met another one",
  "40P01": "the transaction met another one",
  "25006": "the transaction is read-only",
  ECONNREFUSED: "nobody answers at its address",
  ECONNRESET: "the connection was lost"
}

/** Entries that were appended are not there, and the database has not failed. */
export const entriesLeftOut = (log: string): ChangeLogError =>
  new ChangeLogError({
    reason: "Rejected",
    log,
    message: `${log}: append: a trigger or a rule of the table leaves entries out; let them be inserted.`
  })

/** Classifies an error of a database. `doing` says what failed, as in "reading". */
export const classify = (log: string, doing: string, error: SqlError): ChangeLogError => {
  const cause = told(error)
  const known = advice[cause.code] ?? advice[cause.code.split("_").slice(0, 2).join("_")]
  const detail = known ?? (cause.code === "" ? "it gave no code" : `code ${cause.code}`)
  if (isMissing(cause)) {
    return new ChangeLogError({
      reason: "MissingTable",
      log,
      message: `${log}: ${doing} failed: the table or a column of it does not exist; create it, or name it right.`
    })
  }
  return new ChangeLogError({
    reason: isFinal(cause) ? "Rejected" : "Unavailable",
    log,
    message: `${log}: ${doing} failed: ${detail}.`
  })
}
