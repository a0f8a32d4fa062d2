/**
 * The table of a log as its user describes it: checked, with quoted names, and with what its user vouches for.
 */

/** The columns of a table. */
export interface Columns {
  readonly seq: string
  readonly entity: string
  readonly kind: string
  readonly data: string
  readonly at: string
  readonly xid: string
}

/** What a user may say of a table of their own. */
export interface TableOptions {
  readonly table?: string | undefined
  readonly columns?: Partial<Columns> | undefined
  readonly create?: boolean | undefined
  readonly assumeOrdered?: boolean | undefined
  readonly assumeNeverReused?: boolean | undefined
  readonly assumeDense?: boolean | undefined
  readonly notify?: boolean | undefined
}

export interface LogTable {
  /** As the user wrote it. */
  readonly name: string
  /** Quoted, for statements. */
  readonly quoted: string
  readonly columns: Columns
  /** The columns that the user has named: they must be there. */
  readonly named: ReadonlyArray<keyof Columns>
  readonly create: boolean
  readonly assumeOrdered: boolean
  readonly assumeNeverReused: boolean
  readonly assumeDense: boolean
  readonly notify: boolean
}

const defaultColumns: Columns = {
  seq: "seq",
  entity: "entity",
  kind: "kind",
  data: "data",
  at: "at",
  xid: "xid"
}

/** Quotes an identifier of SQL. */
export const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`

const isName = (name: string): boolean => /^[\p{L}_][\p{L}\p{N}_$]{0,62}$/u.test(name)

export const make = (options: TableOptions): LogTable => {
  const name = options.table ?? "periscope_changes"
  const parts = name.split(".")
  if (parts.length > 2 || !parts.every(isName)) {
    throw new Error(
      `SqlChangeLog: \`table\` is ${JSON.stringify(name)}; write the name of a table, such as changes or audit.changes.`
    )
  }
  const columns = { ...defaultColumns, ...withoutUndefined(options.columns ?? {}) }
  for (const [column, value] of Object.entries(columns)) {
    if (!isName(value)) {
      throw new Error(`SqlChangeLog: \`columns.${column}\` is ${JSON.stringify(value)}; write the name of a column.`)
    }
  }
  const named = Object.keys(withoutUndefined(options.columns ?? {})) as ReadonlyArray<keyof Columns>
  return {
    name,
    quoted: parts.map(quote).join("."),
    columns,
    named,
    create: options.create ?? named.length === 0,
    assumeOrdered: options.assumeOrdered ?? false,
    assumeNeverReused: options.assumeNeverReused ?? false,
    assumeDense: options.assumeDense ?? false,
    notify: options.notify ?? true
  }
}

const withoutUndefined = (columns: Partial<Columns>): Partial<Columns> =>
  Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== undefined))
