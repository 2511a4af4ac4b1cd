"""What a bitcoin costs: price sources, and the price of a sale."""
