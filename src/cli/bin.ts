#!/usr/bin/env node
/**
 * The executable `periscope`.
 */
import { main } from "./main.js"

main(process.argv.slice(2))
