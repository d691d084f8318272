"""Everything that has state: store, records, access, outbound, work, edges and the app that joins them."""
