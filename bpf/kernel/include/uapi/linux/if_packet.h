/* Included by BCC for socket filters, which we have none of. */
