"""The public price sources."""
