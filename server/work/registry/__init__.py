"""The transactions that change the Document Registry, each all or nothing: ITI-42, ITI-57, ITI-61, ITI-62."""
