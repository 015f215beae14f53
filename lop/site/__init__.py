"""The site: pages made of the ledger, documentation, notebooks and code, built by Sphinx into `site/`."""
